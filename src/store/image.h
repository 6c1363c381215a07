// The records in memory: what a store answers reads and watches from.
//
// An Image holds only what is durable; a Plan puts transactions on top of it, in order, before they
// are. Private to this room. Belongs to one loop; `Write` is a value and may travel to another
// thread.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/async.h"
#include "base/result.h"
#include "store/store.h"

namespace hob::store {

inline constexpr size_t kHistoryBytesMax =
    64 * 1024 * 1024;  // keys and values; beyond, the oldest changes go

// One key's change. The value is shared between the image and its history.
struct Write {
  std::string key{};
  std::shared_ptr<const std::string> value{};  // null: removed
  Revision revision = 0;
};

class Image {
 public:
  // `revision`: the store's at the start; nothing before it can be watched.
  Image(Executor executor, size_t history_changes_max);
  ~Image();
  Image(const Image&) = delete;
  Image& operator=(const Image&) = delete;

  // Fills an empty image, before any other call. Keys come in any order.
  void load(std::vector<Write> records, Revision revision);

  Revision revision() const { return revision_; }
  // kAbsent: no such key.
  Revision revision_of(const std::string& key) const;
  std::optional<Entry> get(const std::string& key) const;
  Listing list(std::string_view prefix) const;
  // Revisions never fall; one call holds whole commits only.
  void apply(std::vector<Write> writes);
  // The image must outlive the watch.
  std::unique_ptr<Watch> watch(std::string prefix, Revision from);

 private:
  class PrefixWatch;
  struct Item {
    std::shared_ptr<const std::string> value{};
    Revision revision = 0;
  };
  void trim_history();

  Executor executor_;
  size_t history_changes_max_;
  std::map<std::string, Item, std::less<>> items_;
  Revision revision_ = 0;
  std::deque<Write> history_;
  size_t history_bytes_ = 0;
  Revision floor_ = 0;  // changes up to this revision are not in the history any more
  // By age: they are woken in an order that does not hang on addresses.
  std::map<uint64_t, PrefixWatch*> watches_;
  uint64_t watches_made_ = 0;
};

// kLimit, kInvalid: the transaction breaks a rule of store.h, whatever the state.
Result<void> check_limits(const Transaction& transaction);

// Transactions put one after another on an image; each sees those before it.
class Plan {
 public:
  explicit Plan(const Image& image) : image_(image), revision_(image.revision()) {}
  // The revision it will have. kConflict: an expectation does not hold, and the plan is as before.
  Result<Revision> add(Transaction transaction);
  const std::vector<Write>& writes() const { return writes_; }
  Revision revision() const { return revision_; }
  size_t bytes() const { return bytes_; }

 private:
  Revision revision_of(const std::string& key) const;

  const Image& image_;
  std::map<std::string, Revision> overlay_;
  std::vector<Write> writes_;
  Revision revision_;
  size_t bytes_ = 0;
};

}  // namespace hob::store
