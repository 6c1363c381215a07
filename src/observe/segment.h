// The format of one file of a log stream, shared by its writer, its reader and recovery.
//
// Text, one item a line, so that `grep` works on it. The first line is the header, then batches:
// events, ended by a commit. What follows the last commit is a batch whose write was cut off, and
// does not count.
//
//   H 1 <stream made, ms> <position so far> <group>\t<stream>
//   E <time, ms> <ingested, ms> <text>
//   C <position>
//
// Names and texts are escaped (\n, \r, \t, \\), so that a newline only ever ends an item. Pure
// functions; any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/time.h"

namespace hob::observe {

inline constexpr size_t kEventBytesMax =
    256 * 1024;  // CloudWatch's limit of an event; longer ones are cut
inline constexpr size_t kLogNameBytesMax =
    512;  // CloudWatch's limit of a group's and a stream's name

struct SegmentHeader {
  Instant created_at{};   // the stream, not this segment
  int64_t position = -1;  // of the stream when the segment was begun; -1: none yet
  std::string group{};
  std::string stream{};
  bool operator==(const SegmentHeader&) const = default;
};

struct SegmentItem {
  bool commit = false;
  int64_t position = -1;  // a commit's
  Instant at{};           // an event's, as its three below
  Instant ingested_at{};
  std::string text{};
  size_t offset = 0;  // of the item's line in the segment
  size_t end = 0;     // of the next line
};

// Each with its newline.
std::string format_header(const SegmentHeader& header);
std::string format_event(Instant at, Instant ingested_at, std::string_view text);
std::string format_commit(int64_t position);

// kCorrupt: `segment` does not begin with a whole header line. `header_bytes`: its length.
Result<SegmentHeader> parse_header(std::string_view segment, size_t* header_bytes);
// The item whose line starts at `offset`; nullopt at the end. Lines that are no item are passed
// over.
std::optional<SegmentItem> next_item(std::string_view segment, size_t offset);
// How many bytes of `tail` (the end of a segment, beginning at a line or anywhere) are up to and
// with its last commit line; nullopt: no whole commit line in it.
std::optional<size_t> committed_bytes(std::string_view tail);

}  // namespace hob::observe
