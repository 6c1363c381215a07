#include "edge/hpack.h"

#include <algorithm>
#include <array>

#include "base/assert.h"
#include "base/http_parser.h"

namespace hob::edge {
namespace {

constexpr size_t kSymbols = 257;  // bytes and the end of string
constexpr size_t kEndOfString = 256;
constexpr size_t kNodes = 256;  // of a binary tree with 257 leaves
// Sizes and indices beyond are absurd: a block has 64 KiB.
constexpr uint64_t kIntegerMax = 1 << 24;
constexpr size_t kRoomKept = 4096;  // of a scratch string between fields

// RFC 7541 appendix B: the code is canonical, so its lengths say it all.
constexpr std::array<uint8_t, kSymbols> kCodeLengths = {
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6,  10, 10, 12, 13, 6,  8,  11, 10, 10, 8,  11, 8,  6,  6,  6,
    5,  5,  5,  6,  6,  6,  6,  6,  6,  6,  7,  8,  15, 6,  12, 10, 13, 6,  7,  7,  7,  7,  7,  7,
    7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  8,  7,  8,  13, 19, 13, 14, 6,
    15, 5,  6,  5,  6,  5,  6,  6,  6,  5,  7,  7,  6,  6,  6,  5,  6,  7,  6,  5,  5,  6,  7,  7,
    7,  7,  7,  15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21,
    23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24,
    21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30};
constexpr std::array<HpackField, 61> kStatic = {{
    {":authority", ""},
    {":method", "GET"},
    {":method", "POST"},
    {":path", "/"},
    {":path", "/index.html"},
    {":scheme", "http"},
    {":scheme", "https"},
    {":status", "200"},
    {":status", "204"},
    {":status", "206"},
    {":status", "304"},
    {":status", "400"},
    {":status", "404"},
    {":status", "500"},
    {"accept-charset", ""},
    {"accept-encoding", "gzip, deflate"},
    {"accept-language", ""},
    {"accept-ranges", ""},
    {"accept", ""},
    {"access-control-allow-origin", ""},
    {"age", ""},
    {"allow", ""},
    {"authorization", ""},
    {"cache-control", ""},
    {"content-disposition", ""},
    {"content-encoding", ""},
    {"content-language", ""},
    {"content-length", ""},
    {"content-location", ""},
    {"content-range", ""},
    {"content-type", ""},
    {"cookie", ""},
    {"date", ""},
    {"etag", ""},
    {"expect", ""},
    {"expires", ""},
    {"from", ""},
    {"host", ""},
    {"if-match", ""},
    {"if-modified-since", ""},
    {"if-none-match", ""},
    {"if-range", ""},
    {"if-unmodified-since", ""},
    {"last-modified", ""},
    {"link", ""},
    {"location", ""},
    {"max-forwards", ""},
    {"proxy-authenticate", ""},
    {"proxy-authorization", ""},
    {"range", ""},
    {"referer", ""},
    {"refresh", ""},
    {"retry-after", ""},
    {"server", ""},
    {"set-cookie", ""},
    {"strict-transport-security", ""},
    {"transfer-encoding", ""},
    {"user-agent", ""},
    {"vary", ""},
    {"via", ""},
    {"www-authenticate", ""},
}};

// Half a byte at a time: from a node of the code's tree to the next, with the byte that was
// completed on the way. No code is shorter than five bits, so there is one at most.
struct Step {
  uint8_t node = 0;
  uint8_t symbol = 0;
  bool emits : 1 = false;
  bool bad : 1 = false;
};
struct Machine {
  std::array<std::array<Step, 16>, kNodes> steps{};
  std::array<bool, kNodes> may_end{};  // seven ones at most: padding (RFC 7541 §5.2)
};

Machine make_machine() {
  constexpr uint16_t kLeaf = 0x8000;
  std::vector<std::array<uint16_t, 2>> tree(1, {0, 0});
  // Canonical: by length, then by symbol.
  std::array<uint16_t, kSymbols> order{};
  for (size_t i = 0; i < kSymbols; ++i) order[i] = static_cast<uint16_t>(i);
  std::ranges::sort(order, {},
                    [](uint16_t symbol) { return std::pair(kCodeLengths[symbol], symbol); });
  uint32_t code = 0;
  uint8_t length = kCodeLengths[order.front()];
  for (const uint16_t symbol : order) {
    code <<= kCodeLengths[symbol] - length;
    length = kCodeLengths[symbol];
    size_t node = 0;
    for (int bit = length - 1; bit >= 0; --bit) {
      const size_t side = code >> bit & 1;
      if (bit == 0) {
        tree[node][side] = kLeaf | symbol;
      } else {
        if (tree[node][side] == 0) {
          tree[node][side] = static_cast<uint16_t>(tree.size());
          tree.push_back({0, 0});
        }
        node = tree[node][side];
      }
    }
    ++code;
  }
  HOB_ASSERT(tree.size() == kNodes);
  Machine machine;
  size_t ones = 0;
  for (int depth = 0; depth < 8; ++depth) {
    machine.may_end[ones] = true;
    ones = tree[ones][1];
  }
  for (size_t from = 0; from < kNodes; ++from) {
    for (size_t nibble = 0; nibble < 16; ++nibble) {
      Step& step = machine.steps[from][nibble];
      size_t node = from;
      for (int bit = 3; bit >= 0; --bit) {
        const uint16_t next = tree[node][nibble >> bit & 1];
        if ((next & kLeaf) == 0) {
          node = next;
          continue;
        }
        const size_t symbol = next & ~kLeaf;
        if (symbol == kEndOfString) {
          step.bad = true;
          break;
        }
        step.emits = true;
        step.symbol = static_cast<uint8_t>(symbol);
        node = 0;
      }
      step.node = static_cast<uint8_t>(node);
    }
  }
  return machine;
}

const Machine& machine() {
  static const Machine made = make_machine();
  return made;
}

// False: not whole, or too large.
bool integer(std::string_view& block, int prefix_bits, uint64_t& value) {
  if (block.empty()) return false;
  const uint64_t full = (uint64_t{1} << prefix_bits) - 1;
  value = static_cast<uint8_t>(block.front()) & full;
  block.remove_prefix(1);
  if (value < full) return true;
  for (int shift = 0; shift <= 21; shift += 7) {
    if (block.empty()) return false;
    const auto byte = static_cast<uint8_t>(block.front());
    block.remove_prefix(1);
    value += static_cast<uint64_t>(byte & 127) << shift;
    if ((byte & 128) == 0) return value <= kIntegerMax;
  }
  return false;
}

void write_integer(uint8_t pattern, int prefix_bits, uint64_t value, std::string& block) {
  const uint64_t full = (uint64_t{1} << prefix_bits) - 1;
  if (value < full) {
    block += static_cast<char>(pattern | value);
    return;
  }
  block += static_cast<char>(pattern | full);
  for (value -= full; value >= 128; value >>= 7) block += static_cast<char>(128 | (value & 127));
  block += static_cast<char>(value);
}

// Of the static table's names, those of each length: first number of each.
struct NamesByLength {
  static constexpr size_t kLengthMax = 27;
  std::array<std::vector<uint8_t>, kLengthMax + 1> at{};
};

const NamesByLength& names_by_length() {
  static const NamesByLength made = [] {
    NamesByLength names;
    for (size_t i = 0; i < kStatic.size(); ++i) {
      const std::string_view name = kStatic[i].name;
      if (name.front() == ':' || (i > 0 && kStatic[i - 1].name == name)) continue;
      names.at[name.size()].push_back(static_cast<uint8_t>(i + 1));
    }
    return names;
  }();
  return made;
}

uint64_t static_name(std::string_view name) {
  if (name.size() > NamesByLength::kLengthMax) return 0;
  for (const uint8_t index : names_by_length().at[name.size()]) {
    if (http::equal_without_case(kStatic[index - 1].name, name)) return index;
  }
  return 0;
}

}  // namespace

bool huffman_decode(std::string_view coded, std::string& out) {
  const Machine& steps = machine();
  uint8_t node = 0;
  for (const char c : coded) {
    const auto byte = static_cast<uint8_t>(c);
    for (const size_t nibble : {size_t{byte} >> 4, size_t{byte} & 15}) {
      const Step& step = steps.steps[node][nibble];
      if (step.bad) return false;
      if (step.emits) out += static_cast<char>(step.symbol);
      node = step.node;
    }
  }
  return steps.may_end[node];
}

bool HpackDecoder::find(uint64_t index, HpackField& field) const {
  if (index == 0) return false;
  if (index <= kStatic.size()) {
    field = kStatic[index - 1];
    return true;
  }
  const uint64_t age = index - kStatic.size();  // 1: the newest
  if (age > table_.size() - first_) return false;
  const Entry& entry = table_[table_.size() - age];
  field = {.name = entry.name(), .value = entry.value()};
  return true;
}

bool HpackDecoder::text(std::string_view& block, std::string& room, std::string_view& out) {
  if (block.empty()) return false;
  const bool coded = (static_cast<uint8_t>(block.front()) & 128) != 0;
  uint64_t size = 0;
  if (!integer(block, 7, size) || size > block.size()) return false;
  out = block.substr(0, size);
  block.remove_prefix(size);
  if (!coded) return true;
  room.clear();
  if (room.capacity() > kRoomKept) room.shrink_to_fit();
  if (!huffman_decode(out, room)) return false;
  out = room;
  return true;
}

void HpackDecoder::evict(size_t bytes_max) {
  while (table_bytes_ > bytes_max) {
    table_bytes_ -= table_[first_].bytes();
    table_[first_++].text = std::string();
  }
  if (first_ == table_.size() || first_ >= kHpackTableBytes / kHpackEntryOverhead) {
    table_.erase(table_.begin(), table_.begin() + static_cast<ptrdiff_t>(first_));
    first_ = 0;
  }
}

void HpackDecoder::remember(const HpackField& field) {
  Entry entry;
  // Copied first: the name may be that of an entry about to go (RFC 7541 §4.4).
  entry.text.reserve(field.name.size() + field.value.size());
  entry.text.append(field.name).append(field.value);
  entry.name_size = field.name.size();
  const size_t bytes = entry.bytes();
  evict(bytes > table_bytes_max_ ? 0 : table_bytes_max_ - bytes);
  if (bytes > table_bytes_max_) return;
  table_bytes_ += bytes;
  table_.push_back(std::move(entry));
}

HpackDecoder::Outcome HpackDecoder::next(std::string_view& block, HpackField& field) {
  while (!block.empty()) {
    const auto first = static_cast<uint8_t>(block.front());
    uint64_t index = 0;
    if ((first & 0x80) != 0) {
      fields_begun_ = true;
      return integer(block, 7, index) && find(index, field) ? Outcome::kField : Outcome::kBad;
    }
    if ((first & 0xe0) == 0x20) {
      // Only in front of a block (§4.2), and never above what we allow.
      if (fields_begun_ || !integer(block, 5, index) || index > kHpackTableBytes)
        return Outcome::kBad;
      table_bytes_max_ = index;
      evict(table_bytes_max_);
      continue;
    }
    fields_begun_ = true;
    const bool indexed = (first & 0xc0) == 0x40;
    if (!integer(block, indexed ? 6 : 4, index)) return Outcome::kBad;
    if (index != 0) {
      if (!find(index, field)) return Outcome::kBad;
    } else if (!text(block, name_room_, field.name)) {
      return Outcome::kBad;
    }
    if (!text(block, value_room_, field.value)) return Outcome::kBad;
    if (!indexed) return Outcome::kField;
    // The name's view may be of an entry that this one pushes out, or that moves: the new entry has
    // both, or the table is empty and the field is larger than it.
    if (index != 0) field.name = name_room_.assign(field.name);
    remember(field);
    return Outcome::kField;
  }
  return Outcome::kEnd;
}

void hpack_status(int status, std::string& block) {
  for (uint64_t index = 8; index <= 14; ++index) {
    const std::string_view digits = kStatic[index - 1].value;
    if (status == (digits[0] - '0') * 100 + (digits[1] - '0') * 10 + digits[2] - '0') {
      write_integer(0x80, 7, index, block);
      return;
    }
  }
  write_integer(0, 4, 8, block);
  block += '\x03';
  block += static_cast<char>('0' + status / 100 % 10);
  block += static_cast<char>('0' + status / 10 % 10);
  block += static_cast<char>('0' + status % 10);
}

void hpack_field(std::string_view name, std::string_view value, std::string& block) {
  const uint64_t index = static_name(name);
  write_integer(0, 4, index, block);
  if (index == 0) {
    write_integer(0, 7, name.size(), block);
    for (const char c : name) block += c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  }
  write_integer(0, 7, value.size(), block);
  block.append(value);
}

}  // namespace hob::edge
