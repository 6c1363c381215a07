// Where log lines are kept: append-only files per account, group and stream, bounded, read while
// they are written.
//
// A stream is a row of segments (segment.h) under DIRECTORY/<account>/<hash of group and
// stream>/<number>.log. A batch is there whole or not at all after kill -9; lines are not synced,
// so a power cut may cost the last seconds. Beyond LogLimits the oldest segments go. Positions make
// a repeated batch harmless: see append().
//
// Methods may be called from any coroutine, any number at a time; the work is done on the pool.
// Calls for one stream that must keep an order are awaited one after the other by their caller.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/async.h"
#include "base/result.h"
#include "base/time.h"
#include "link/messages.h"
#include "observe/filter_pattern.h"

namespace hob::observe {

struct LogLimits {
  size_t segment_bytes_max =
      4 * 1024 * 1024;      // a segment is closed before it passes this; one batch may be larger
  size_t segments_max = 4;  // of one stream: it keeps between 12 and 16 MiB
  size_t total_bytes_max =
      1024ull * 1024 * 1024;  // of all; each segment counts as kSegmentCharge at least
};
inline constexpr size_t kSegmentCharge =
    16 * 1024;                                    // so that tiny streams are bounded in number, too
inline constexpr size_t kReadEventsMax = 10'000;  // of one read (service model)
inline constexpr size_t kReadBytesMax = 1024 * 1024;  // of one read's texts

struct StreamName {
  std::string account{};
  std::string group{};
  std::string stream{};
  auto operator<=>(const StreamName&) const = default;
};

// A place in a stream: before the line at `offset` of segment `segment`. Places stay valid as the
// stream grows; those in a segment that was dropped mean the oldest line there is.
struct StreamPlace {
  uint64_t segment = 0;
  uint64_t offset = 0;
  auto operator<=>(const StreamPlace&) const = default;
};
inline constexpr StreamPlace kStreamEnd{.segment = UINT64_MAX, .offset = UINT64_MAX};

struct LogEvent {
  std::string stream{};
  Instant at{};
  Instant ingested_at{};
  std::string text{};
  StreamPlace place{};
};

struct TimeRange {  // from <= time < to
  Instant from{Duration(INT64_MIN)};
  Instant to{Duration(INT64_MAX)};
  bool contains(Instant at) const { return from <= at && at < to; }
};

enum class ReadDirection { kForward, kBackward };

struct ReadRequest {
  StreamName name{};
  TimeRange range{};
  StreamPlace place{};  // forward: from here on; backward: what is before
  ReadDirection direction = ReadDirection::kForward;
  size_t limit = kReadEventsMax;
};

// Oldest first in both directions.
struct LogPage {
  std::vector<LogEvent> events{};
  StreamPlace before{};  // reading backward from here gives what is older than the page
  StreamPlace after{};   // reading forward from here gives what is newer
};

struct StreamSummary {
  std::string group{};
  std::string stream{};
  Instant created_at{};
  std::optional<Instant> first_event_at{};
  std::optional<Instant> last_event_at{};
  std::optional<Instant> last_ingested_at{};
  size_t stored_bytes = 0;
};

// Where a filtered read goes on: after the event with this time in this stream at this place.
struct FilterPlace {
  Instant at{};
  std::string stream{};
  StreamPlace place{};
};

struct FilterRequest {
  std::string account{};
  std::string group{};
  std::vector<std::string> streams{};  // empty: all that start with `stream_prefix`
  std::string stream_prefix{};
  TimeRange range{};
  FilterPattern pattern{};
  std::optional<FilterPlace> after{};
  size_t limit = kReadEventsMax;
};

// In order of time, then stream, then place.
struct FilterPage {
  std::vector<LogEvent> events{};
  std::optional<FilterPlace> next{};  // nullopt: that was all
};

class Logs {
 public:
  // The pool and the clock must outlive it. `directory` is made (0700) by open().
  Logs(std::filesystem::path directory, BlockingPool& pool, Clock& clock, LogLimits limits = {});
  ~Logs();
  // Reads what is there, dropping batches that were cut off. Call first. Files that are no segments
  // are left alone.
  Async<Result<void>> open();

  // Adds a batch; makes the stream. `position` (>= 0): the sender's count after this batch; a batch
  // at or below the stream's own position is a repetition and adds nothing. nullopt: lines without
  // positions. Answers the stream's position. kInvalid: a name that is empty, too long or no
  // account. kUnavailable: the disk; nothing was added.
  Async<Result<int64_t>> append(StreamName name, std::vector<link::LogLine> lines,
                                std::optional<int64_t> position);

  // kNotFound: no such stream.
  Async<Result<LogPage>> read(ReadRequest request);
  // kNotFound: no such group, or a stream named in `streams` is not there.
  Async<Result<FilterPage>> filter(FilterRequest request);
  // Every stream of an account whose group starts with `group_prefix`, ordered by group and stream.
  std::vector<StreamSummary> list(const std::string& account,
                                  const std::string& group_prefix) const;

 private:
  class Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace hob::observe
