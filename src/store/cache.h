// Some prefixes of a store, kept current in memory by list and watch: what controllers sit on.
//
// Belongs to one loop. Between two co_awaits nothing changes in it. After compaction it lists again
// and reports the difference, so that whoever follows on_change never misses or doubles a change.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "base/async.h"
#include "base/result.h"
#include "store/store.h"

namespace hob::store {

class Cache {
 public:
  // Told of every change in order, `entry` null for a removed key. Called on the loop; must not
  // wait.
  using OnChange = std::function<void(const std::string& key, const Entry* entry)>;

  // The store must outlive the cache. Prefixes must not contain one another.
  Cache(Store& store, const Executor& executor, std::vector<std::string> prefixes,
        OnChange on_change = {});

  // Lists, then follows until stop().
  void start();
  Async<> stop();

  // In order of key.
  const std::map<std::string, Entry>& entries() const { return entries_; }
  // nullptr: no such key. Good until the next co_await.
  const Entry* find(const std::string& key) const;
  // Everything under the prefixes up to this revision is in. It moves with changes under the
  // prefixes only, so wait with it for one's own commits there, not for others'.
  Revision revision() const { return revision_; }
  // Waits for the first listing: entries() is meaningless before it.
  Async<> listed();
  // Waits until revision() >= `revision`: after a commit, until one sees what one wrote.
  Async<> reach(Revision revision);
  // Waits until revision() > `seen`, or for `timeout` of steady time.
  Async<> changed(Revision seen);
  Async<> changed_within(Revision seen, Duration timeout);

 private:
  Async<> follow();
  Async<Result<std::unique_ptr<Watch>>> list_all();
  void set(Entry entry);
  void remove(const std::string& key);

  Store& store_;
  std::vector<std::string> prefixes_;
  std::string common_;  // what all prefixes start with: one watch keeps their changes in one order
  OnChange on_change_;
  std::map<std::string, Entry> entries_;
  std::map<std::string, Revision> listed_at_;  // by prefix: older changes are in the list already
  Revision revision_ = 0;
  Event listed_;
  Event moved_;
  AsyncScope scope_;
};

}  // namespace hob::store
