#include "store/image.h"

#include <algorithm>
#include <utility>

#include "base/assert.h"

namespace hob::store {

namespace {
size_t bytes_of(const Write& write) {
  return write.key.size() + (write.value ? write.value->size() : 0);
}
}  // namespace

class Image::PrefixWatch final : public Watch {
 public:
  PrefixWatch(Image& image, std::string prefix, Revision from)
      : image_(image),
        number_(++image.watches_made_),
        prefix_(std::move(prefix)),
        from_(from),
        changed_(image.executor_) {
    image_.watches_.emplace(number_, this);
  }
  ~PrefixWatch() override { image_.watches_.erase(number_); }

  Async<Result<std::vector<Change>>> next() override {
    for (;;) {
      if (from_ < image_.floor_) {
        co_return fail(Code::kConflict,
                       "compacted: changes after revision {} are held, {} was asked", image_.floor_,
                       from_);
      }
      std::vector<Change> changes = take();
      if (!changes.empty()) co_return changes;
      changed_.reset();
      co_await changed_.wait();
    }
  }

  void wake() { changed_.set(); }

 private:
  std::vector<Change> take() {
    std::vector<Change> changes;
    const auto& history = image_.history_;
    auto at =
        std::upper_bound(history.begin(), history.end(), from_,
                         [](Revision from, const Write& write) { return from < write.revision; });
    for (; at != history.end(); ++at) {
      if (!at->key.starts_with(prefix_)) continue;
      Change& change = changes.emplace_back(Change{.key = at->key, .revision = at->revision});
      if (at->value) change.value = *at->value;
    }
    from_ = std::max(from_, image_.revision_);
    return changes;
  }

  Image& image_;
  uint64_t number_;
  std::string prefix_;
  Revision from_;
  Event changed_;
};

Image::Image(Executor executor, size_t history_changes_max)
    : executor_(std::move(executor)), history_changes_max_(history_changes_max) {}

Image::~Image() { HOB_ASSERT(watches_.empty()); }

void Image::load(std::vector<Write> records, Revision revision) {
  HOB_ASSERT(items_.empty());
  for (Write& record : records) {
    HOB_ASSERT(record.value != nullptr);
    items_.insert_or_assign(items_.end(), std::move(record.key),
                            Item{.value = std::move(record.value), .revision = record.revision});
  }
  revision_ = floor_ = revision;
}

Revision Image::revision_of(const std::string& key) const {
  const auto found = items_.find(key);
  return found == items_.end() ? kAbsent : found->second.revision;
}

std::optional<Entry> Image::get(const std::string& key) const {
  const auto found = items_.find(key);
  if (found == items_.end()) return std::nullopt;
  return Entry{.key = key, .value = *found->second.value, .revision = found->second.revision};
}

Listing Image::list(std::string_view prefix) const {
  Listing listing{.revision = revision_};
  for (auto at = items_.lower_bound(prefix); at != items_.end() && at->first.starts_with(prefix);
       ++at) {
    listing.entries.push_back(
        Entry{.key = at->first, .value = *at->second.value, .revision = at->second.revision});
  }
  return listing;
}

void Image::apply(std::vector<Write> writes) {
  for (Write& write : writes) {
    HOB_ASSERT(write.revision >= revision_);
    revision_ = write.revision;
    if (write.value) {
      items_.insert_or_assign(write.key, Item{.value = write.value, .revision = write.revision});
    } else {
      items_.erase(write.key);
    }
    history_bytes_ += bytes_of(write);
    history_.push_back(std::move(write));
  }
  trim_history();
  for (const auto& [number, watch] : watches_) watch->wake();
}

void Image::trim_history() {
  while (history_.size() > history_changes_max_ || history_bytes_ > kHistoryBytesMax) {
    floor_ = history_.front().revision;
    history_bytes_ -= bytes_of(history_.front());
    history_.pop_front();
  }
}

std::unique_ptr<Watch> Image::watch(std::string prefix, Revision from) {
  return std::make_unique<PrefixWatch>(*this, std::move(prefix), from);
}

Result<void> check_limits(const Transaction& transaction) {
  const size_t keys =
      transaction.expect.size() + transaction.put.size() + transaction.remove.size();
  if (keys > kTransactionKeysMax) {
    return fail(Code::kLimit, "a transaction of {} keys, at most {}", keys, kTransactionKeysMax);
  }
  const auto check_key = [](const std::string& key) -> Result<void> {
    if (key.size() > kKeyBytesMax) {
      return fail(Code::kLimit, "a key of {} bytes, at most {}", key.size(), kKeyBytesMax);
    }
    if (!key.starts_with('/'))
      return fail(Code::kInvalid, "the key '{}' does not start with '/'", key);
    return {};
  };
  for (const auto& [key, revision] : transaction.expect) HOB_CHECK(check_key(key));
  for (const std::string& key : transaction.remove) {
    HOB_CHECK(check_key(key));
    if (transaction.put.contains(key))
      return fail(Code::kInvalid, "{} is both put and removed", key);
  }
  for (const auto& [key, value] : transaction.put) {
    HOB_CHECK(check_key(key));
    if (value.size() > kValueBytesMax) {
      return fail(Code::kLimit, "{} has {} bytes, at most {}", key, value.size(), kValueBytesMax);
    }
  }
  return {};
}

Revision Plan::revision_of(const std::string& key) const {
  const auto found = overlay_.find(key);
  return found == overlay_.end() ? image_.revision_of(key) : found->second;
}

Result<Revision> Plan::add(Transaction transaction) {
  for (const auto& [key, expected] : transaction.expect) {
    const Revision actual = revision_of(key);
    if (actual == expected) continue;
    return fail(Code::kConflict, "{} is at revision {}, expected {}", key, actual, expected);
  }
  const Revision next = revision_ + 1;
  const size_t before = writes_.size();
  for (auto& [key, value] : transaction.put) {
    writes_.push_back({.key = key,
                       .value = std::make_shared<const std::string>(std::move(value)),
                       .revision = next});
    overlay_[key] = next;
  }
  for (std::string& key : transaction.remove) {
    if (revision_of(key) == kAbsent) continue;
    overlay_[key] = kAbsent;
    writes_.push_back({.key = std::move(key), .revision = next});
  }
  if (writes_.size() == before) return revision_;  // nothing to write: no commit is counted
  for (size_t i = before; i < writes_.size(); ++i) bytes_ += bytes_of(writes_[i]);
  revision_ = next;
  return next;
}

}  // namespace hob::store
