// The Store contract: paths to records, transactions, revisions, watches. Only control touches it.
//
// Keys are paths ("/runner/000000000001/services/ID"), built and parsed in one header per room
// (keys.h); values are encoded records (base/record.h). A revision counts every commit of the
// store, from 1. All stores pass store/store_suite.h. Belongs to control's loop; may be called from
// coroutines of that loop only.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/async.h"
#include "base/result.h"

namespace hob::store {

using Revision = int64_t;
inline constexpr Revision kAbsent = 0;  // as an expectation: the key does not exist

inline constexpr size_t kKeyBytesMax = 1024;
inline constexpr size_t kValueBytesMax = 4 * 1024 * 1024;
inline constexpr size_t kTransactionKeysMax = 1000;
inline constexpr size_t kHistoryChangesMax = 100'000;  // a watcher further behind gets Compacted

struct Entry {
  std::string key{};
  std::string value{};
  Revision revision = 0;  // of the commit that last wrote it
};

struct Listing {
  std::vector<Entry> entries{};  // in order of key
  Revision revision = 0;         // the store's, when this was so: watch from here
};

// All or nothing. Expectations: the key's revision must be exactly this one (kAbsent: no such key).
struct Transaction {
  std::map<std::string, Revision> expect{};
  std::map<std::string, std::string> put{};
  std::vector<std::string> remove{};
};

struct Change {
  std::string key{};
  std::optional<std::string> value{};  // nullopt: removed
  Revision revision = 0;
};

// Every change under a prefix after a revision, in order, none missed, none twice.
class Watch {
 public:
  virtual ~Watch() = default;
  // Waits for changes; returns all there are, whole commits only, never an empty list.
  // kConflict ("compacted"): too far behind; list again and watch from there. Cancelled: loses
  // nothing.
  virtual Async<Result<std::vector<Change>>> next() = 0;
};

class Store {
 public:
  virtual ~Store() = default;
  // nullopt: no such key.
  virtual Async<Result<std::optional<Entry>>> get(std::string key) = 0;
  // Every key that starts with `prefix`, at one revision.
  virtual Async<Result<Listing>> list(std::string prefix) = 0;
  // Durable (on disk) when it returns. kConflict: an expectation failed, nothing was written.
  // kUnavailable: the disk failed; the transaction may not be there after a restart and is not seen
  // by anyone now.
  virtual Async<Result<Revision>> commit(Transaction transaction) = 0;
  // Changes with a revision above `from`. The store must outlive the watch.
  virtual std::unique_ptr<Watch> watch(std::string prefix, Revision from) = 0;
};

}  // namespace hob::store
