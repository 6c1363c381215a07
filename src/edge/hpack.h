// HPACK (RFC 7541): header blocks of HTTP/2.
//
// The decoder is whole and strict. The encoder uses neither a table of its own nor Huffman's code:
// it writes names of the static table by number and the rest as it is, since a proxy's answers cost
// it more to compress than they save on the way.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace hob::edge {

inline constexpr size_t kHpackTableBytes = 4096;   // SETTINGS_HEADER_TABLE_SIZE's default
inline constexpr size_t kHpackEntryOverhead = 32;  // RFC 7541 §4.1

struct HpackField {
  std::string_view name{};
  std::string_view value{};
};

// One direction's state. Blocks must be given in order and each to its end, or the connection is
// over.
class HpackDecoder {
 public:
  enum class Outcome { kField, kEnd, kBad };
  // The next field of `block`, which gets shorter. The views are good until the next call.
  Outcome next(std::string_view& block, HpackField& field);
  // Before a block's first field.
  void begin() { fields_begun_ = false; }
  size_t table_bytes() const { return table_bytes_; }

 private:
  struct Entry {
    std::string text{};  // name and value
    size_t name_size = 0;
    std::string_view name() const { return std::string_view(text).substr(0, name_size); }
    std::string_view value() const { return std::string_view(text).substr(name_size); }
    size_t bytes() const { return text.size() + kHpackEntryOverhead; }
  };
  bool find(uint64_t index, HpackField& field) const;
  bool text(std::string_view& block, std::string& room, std::string_view& out);
  void remember(const HpackField& field);
  void evict(size_t bytes_max);

  std::vector<Entry> table_;  // the newest last; those before first_ are gone
  size_t first_ = 0;
  size_t table_bytes_ = 0;
  size_t table_bytes_max_ = kHpackTableBytes;
  std::string name_room_;
  std::string value_room_;
  bool fields_begun_ = false;
};

// False: not a code, or badly padded.
bool huffman_decode(std::string_view coded, std::string& out);

// The first bytes of a connection's first block: this side keeps no table, whatever it may.
inline constexpr std::string_view kHpackNoTable = "\x20";
void hpack_status(int status, std::string& block);
// The name is written in lower case.
void hpack_field(std::string_view name, std::string_view value, std::string& block);

}  // namespace hob::edge
