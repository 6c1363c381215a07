#include "store/cache.h"

#include <algorithm>
#include <limits>
#include <memory>
#include <utility>

#include "base/assert.h"
#include "base/log.h"

namespace hob::store {

namespace {

constexpr Backoff kRetry{.min = Duration(50), .max = Duration(5'000)};

std::string common_prefix(const std::vector<std::string>& prefixes) {
  HOB_ASSERT(!prefixes.empty());
  std::string common = prefixes.front();
  for (const std::string& prefix : prefixes) {
    const auto end =
        std::mismatch(common.begin(), common.end(), prefix.begin(), prefix.end()).first;
    common.erase(end, common.end());
  }
  return common;
}

}  // namespace

Cache::Cache(Store& store, const Executor& executor, std::vector<std::string> prefixes,
             OnChange on_change)
    : store_(store),
      prefixes_(std::move(prefixes)),
      common_(common_prefix(prefixes_)),
      on_change_(std::move(on_change)),
      listed_(executor),
      moved_(executor),
      scope_(executor) {}

void Cache::start() { scope_.spawn("store cache", follow()); }

Async<> Cache::stop() {
  scope_.cancel();
  co_await scope_.join();
}

const Entry* Cache::find(const std::string& key) const {
  const auto found = entries_.find(key);
  return found == entries_.end() ? nullptr : &found->second;
}

Async<> Cache::listed() { return listed_.wait(); }

Async<> Cache::reach(Revision revision) {
  while (revision_ < revision) {
    moved_.reset();
    co_await moved_.wait();
  }
}

Async<> Cache::changed(Revision seen) { return reach(seen + 1); }

Async<> Cache::changed_within(Revision seen, Duration timeout) {
  if (revision_ > seen) co_return;
  moved_.reset();
  co_await moved_.wait_for(timeout);
}

Async<> Cache::follow() {
  Backoff backoff = kRetry;
  for (;;) {
    Result<std::unique_ptr<Watch>> watch = co_await list_all();
    while (watch) {
      Result<std::vector<Change>> changes = co_await (*watch)->next();
      if (!changes) {
        // Compacted is nothing unusual; it happens to whoever was busy for long.
        if (changes.error().code != Code::kConflict) {
          log::warn("store watch ended", {{"prefix", common_}, {"error", changes.error().message}});
        }
        break;
      }
      backoff.reset();
      for (Change& change : *changes) {
        const auto listed = std::ranges::find_if(
            listed_at_, [&](const auto& prefix) { return change.key.starts_with(prefix.first); });
        if (listed == listed_at_.end() || change.revision <= listed->second) continue;
        if (change.value) {
          set(Entry{
              .key = change.key, .value = std::move(*change.value), .revision = change.revision});
        } else {
          remove(change.key);
        }
      }
      revision_ = std::max(revision_, changes->back().revision);
      moved_.set();
    }
    if (!watch)
      log::warn("store list failed", {{"prefix", common_}, {"error", watch.error().message}});
    co_await sleep_for(backoff.next(0.5));
  }
}

Async<Result<std::unique_ptr<Watch>>> Cache::list_all() {
  Revision oldest = std::numeric_limits<Revision>::max();
  for (const std::string& prefix : prefixes_) {
    HOB_CO_TRY(Listing listing, co_await store_.list(prefix));
    oldest = std::min(oldest, listing.revision);
    listed_at_[prefix] = listing.revision;
    // Both are in order of key: one pass finds what went, what came and what changed.
    std::vector<std::string> gone;
    auto fresh = listing.entries.begin();
    for (auto held = entries_.lower_bound(prefix);
         held != entries_.end() && held->first.starts_with(prefix); ++held) {
      while (fresh != listing.entries.end() && fresh->key < held->first) ++fresh;
      if (fresh == listing.entries.end() || fresh->key != held->first) gone.push_back(held->first);
    }
    for (const std::string& key : gone) remove(key);
    for (Entry& entry : listing.entries) {
      const Entry* held = find(entry.key);
      if (held == nullptr || held->revision != entry.revision) set(std::move(entry));
    }
  }
  revision_ = std::max(revision_, oldest);
  listed_.set();
  moved_.set();
  co_return store_.watch(common_, oldest);
}

void Cache::set(Entry entry) {
  Entry& held = entries_[entry.key];
  held = std::move(entry);
  if (on_change_) on_change_(held.key, &held);
}

void Cache::remove(const std::string& key) {
  if (entries_.erase(key) == 0) return;
  if (on_change_) on_change_(key, nullptr);
}

}  // namespace hob::store
