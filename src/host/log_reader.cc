#include "host/log_reader.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>

#include "base/file.h"
#include "host/cri_log.h"

namespace hob::host {

namespace {

struct OpenLog {
  Fd fd{};
  int64_t file = 0;
  int64_t size = 0;
};

// The inode's number alone would do until the next file gets the number of one that was just
// removed, as ext4 likes to.
int64_t identity_of(const struct statx& status) {
  const auto born =
      static_cast<uint64_t>(status.stx_btime.tv_sec) * 1'000'000'000 + status.stx_btime.tv_nsec;
  const uint64_t mixed = status.stx_ino * 0x9E3779B97F4A7C15 ^ born;
  return static_cast<int64_t>(mixed >> 1 | 1);  // positive, never 0
}

Result<OpenLog> open_log(const std::filesystem::path& path) {
  OpenLog log{.fd = Fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW))};
  if (!log.fd) return fail_errno(errno, "opening " + path.string());
  struct statx status{};
  if (::statx(log.fd.get(), "", AT_EMPTY_PATH, STATX_INO | STATX_SIZE | STATX_BTIME, &status) !=
      0) {
    return fail_errno(errno, "stat " + path.string());
  }
  log.file = identity_of(status);
  log.size = static_cast<int64_t>(status.stx_size);
  return log;
}

// What follows `from` in one file.
Result<ReadLines> read_from(const OpenLog& log, LogPosition from, size_t bytes_max) {
  if (from.offset < 0 || from.offset > log.size) from.offset = 0;  // truncated in place
  from.file = log.file;
  std::string text(bytes_max, '\0');
  const ssize_t got =
      ::pread(log.fd.get(), text.data(), text.size(), static_cast<off_t>(from.offset));
  if (got < 0) return fail_errno(errno, "reading a log");
  text.resize(static_cast<size_t>(got));
  ParsedLog parsed = parse_cri_log(text, kBatchLinesMax, kBatchBytesMax);
  // No line of the format is as long: it is passed over.
  if (parsed.consumed == 0 && text.size() == kBatchBytesMax) parsed.consumed = text.size();
  from.position += static_cast<int64_t>(parsed.consumed);
  from.offset += static_cast<int64_t>(parsed.consumed);
  return ReadLines{.lines = std::move(parsed.lines), .next = from};
}

}  // namespace

Result<ReadLines> read_lines(const std::filesystem::path& log, LogPosition from, int64_t until) {
  if (until <= from.position) return ReadLines{.next = from};
  const auto bytes_max = static_cast<size_t>(
      std::min<int64_t>(until - from.position, static_cast<int64_t>(kBatchBytesMax)));
  const Result<OpenLog> file = open_log(log);
  if (!file && file.error().code != Code::kNotFound) return fail(file.error());
  const bool rotated = from.file != 0 && (!file || file->file != from.file);
  if (rotated) {  // first the rest of the old one, if it is still there
    const Result<OpenLog> old = open_log(log.string() + ".1");
    if (old && old->file == from.file) {
      HOB_TRY(ReadLines rest, read_from(*old, from, bytes_max));
      if (rest.next.position != from.position) return rest;
    }
    if (!file) return ReadLines{.next = from};
    LogPosition start = from;
    start.offset = 0;
    HOB_TRY(ReadLines fresh, read_from(*file, start, bytes_max));
    // Nothing in it yet: the place in the old one is kept, which differs by nothing that anybody
    // can see.
    if (fresh.next.position == from.position) return ReadLines{.next = from};
    return fresh;
  }
  if (!file) return ReadLines{.next = from};
  HOB_TRY(ReadLines lines, read_from(*file, from, bytes_max));
  if (lines.next.position == from.position) lines.next = from;
  return lines;
}

}  // namespace hob::host
