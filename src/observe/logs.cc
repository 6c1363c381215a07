#include "observe/logs.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <deque>
#include <map>
#include <mutex>
#include <tuple>

#include "base/digest.h"
#include "base/file.h"
#include "base/log.h"
#include "observe/segment.h"

namespace hob::observe {

namespace {

constexpr size_t kTailBytes = 256 * 1024;  // what recovery reads of a segment first
constexpr size_t kAccountBytesMax = 64;

struct Segment {
  uint64_t number = 0;
  size_t bytes = 0;  // committed
};

struct Stream {
  std::filesystem::path directory{};
  Instant created_at{};
  int64_t position = -1;
  std::optional<Instant> first_event_at{};
  std::optional<Instant> last_event_at{};
  std::optional<Instant> last_ingested_at{};
  std::vector<Segment> segments{};  // oldest first
  uint64_t number_next = 0;
};

// What a reader needs of a stream, taken under the lock and used without it.
struct Snapshot {
  std::string stream{};
  std::filesystem::path directory{};
  std::vector<Segment> segments{};
};

size_t charge(const Segment& segment) { return std::max(segment.bytes, kSegmentCharge); }

std::filesystem::path segment_path(const std::filesystem::path& directory, uint64_t number) {
  return directory / fmt::format("{:016}.log", number);
}

bool is_account(const std::string& account) {
  return !account.empty() && account.size() <= kAccountBytesMax &&
         std::ranges::all_of(
             account, [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z'); });
}

Result<void> check_name(const StreamName& name) {
  if (!is_account(name.account)) return fail(Code::kInvalid, "'{}' is no account", name.account);
  if (name.group.empty() || name.group.size() > kLogNameBytesMax || name.stream.empty() ||
      name.stream.size() > kLogNameBytesMax) {
    return fail(Code::kInvalid, "a log group's and stream's name have 1 to {} bytes",
                kLogNameBytesMax);
  }
  return {};
}

// The bytes [from, from + count) of a file; fewer at its end. kNotFound: no such file.
Result<std::string> read_range(const std::filesystem::path& path, size_t from, size_t count) {
  const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!fd) return fail_errno(errno, "opening " + path.string());
  std::string content(count, '\0');
  size_t have = 0;
  while (have < count) {
    const ssize_t got =
        ::pread(fd.get(), content.data() + have, count - have, static_cast<off_t>(from + have));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail_errno(errno, "reading " + path.string());
    if (got == 0) break;
    have += static_cast<size_t>(got);
  }
  content.resize(have);
  return content;
}

// Writes at `offset`; on failure cuts the file back to `offset`.
Result<void> write_at(const std::filesystem::path& path, size_t offset, std::string_view bytes) {
  const Fd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd) return fail_errno(errno, "opening " + path.string());
  size_t at = offset;
  while (!bytes.empty()) {
    const ssize_t wrote = ::pwrite(fd.get(), bytes.data(), bytes.size(), static_cast<off_t>(at));
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) {
      const int error = errno;
      if (::ftruncate(fd.get(), static_cast<off_t>(offset)) != 0) {
        log::warn("log segment not cut back", {{"path", path.string()}});
      }
      return fail_errno(error, "writing " + path.string());
    }
    bytes.remove_prefix(static_cast<size_t>(wrote));
    at += static_cast<size_t>(wrote);
  }
  return {};
}

}  // namespace

// Everything below blocks and runs on the pool, any thread of it; `mutex_` guards the index and all
// writing.
class Logs::Impl {
 public:
  Impl(std::filesystem::path directory, BlockingPool& the_pool, Clock& clock, LogLimits limits)
      : pool(the_pool), directory_(std::move(directory)), clock_(clock), limits_(limits) {}

  BlockingPool& pool;

  Result<void> open();
  Result<int64_t> append(const StreamName& name, const std::vector<link::LogLine>& lines,
                         std::optional<int64_t> position);
  Result<LogPage> read(const ReadRequest& request) const;
  Result<FilterPage> filter(const FilterRequest& request) const;
  std::vector<StreamSummary> list(const std::string& account,
                                  const std::string& group_prefix) const;

 private:
  void open_stream(const std::string& account, const std::filesystem::path& directory);
  // Opens a new segment for the stream (its header alone) and drops what is too many.
  Result<void> begin_segment(const StreamName& name, Stream& stream);
  void drop_oldest_segment(Stream& stream);
  void keep_total_bounded(const StreamName& writing);
  std::optional<Snapshot> snapshot(const StreamName& name) const;

  const std::filesystem::path directory_;
  Clock& clock_;
  const LogLimits limits_;
  mutable std::mutex mutex_;
  std::map<StreamName, Stream> streams_;
  size_t total_ = 0;  // the charges of all segments
};

Result<void> Logs::Impl::open() {
  HOB_CHECK(make_directories(directory_, 0700));
  const std::lock_guard lock(mutex_);
  std::error_code error;
  for (const auto& account : std::filesystem::directory_iterator(directory_, error)) {
    if (!account.is_directory(error) || !is_account(account.path().filename().string())) continue;
    std::error_code inner;
    for (const auto& stream : std::filesystem::directory_iterator(account.path(), inner)) {
      if (stream.is_directory(inner))
        open_stream(account.path().filename().string(), stream.path());
    }
  }
  if (error)
    return fail(Code::kUnavailable, "reading {}: {}", directory_.string(), error.message());
  return {};
}

void Logs::Impl::open_stream(const std::string& account, const std::filesystem::path& directory) {
  std::vector<uint64_t> numbers;
  std::error_code error;
  for (const auto& file : std::filesystem::directory_iterator(directory, error)) {
    const std::string name = file.path().filename().string();
    uint64_t number = 0;
    const auto [end, failed] = std::from_chars(name.data(), name.data() + name.size(), number);
    if (failed == std::errc{} && std::string_view(end) == ".log") numbers.push_back(number);
  }
  std::ranges::sort(numbers);
  Stream stream{.directory = directory};
  std::optional<SegmentHeader> header;
  for (const uint64_t number : numbers) {
    stream.number_next = number + 1;
    const auto path = segment_path(directory, number);
    const size_t size = static_cast<size_t>(std::filesystem::file_size(path, error));
    if (error) continue;
    const auto head = read_range(path, 0, std::min(size, kTailBytes));
    size_t header_bytes = 0;
    auto parsed =
        head ? parse_header(*head, &header_bytes) : Result<SegmentHeader>(fail(head.error()));
    if (!parsed) {
      // The write of a first batch was cut off, or it is not ours. The number is not used again.
      log::warn("log segment left out",
                {{"path", path.string()}, {"error", parsed.error().message}});
      continue;
    }
    size_t from = size > kTailBytes ? size - kTailBytes : 0;
    auto tail = read_range(path, from, size - from);
    auto committed = tail ? committed_bytes(*tail) : std::nullopt;
    if (tail && !committed && from > 0) {
      from = 0;
      tail = read_range(path, 0, size);
      committed = tail ? committed_bytes(*tail) : std::nullopt;
    }
    const Segment segment{.number = number, .bytes = committed ? from + *committed : header_bytes};
    if (segment.bytes < size && ::truncate(path.c_str(), static_cast<off_t>(segment.bytes)) != 0) {
      log::warn("log segment not cut back", {{"path", path.string()}});
    }
    stream.position = parsed->position;
    if (const auto first = next_item(*head, header_bytes);
        first && !first->commit && !stream.first_event_at) {
      stream.first_event_at = first->at;
    }
    if (committed) {
      const std::string_view whole = std::string_view(*tail).substr(0, *committed);
      // A tail that begins within a line: that line is no item, or a cut event whose time is
      // another's digits; skip it.
      size_t offset = from == 0 ? 0 : whole.find('\n') + 1;
      while (const auto item = next_item(whole, offset)) {
        offset = item->end;
        if (item->commit) {
          stream.position = item->position;
        } else {
          stream.last_event_at = item->at;
          stream.last_ingested_at = item->ingested_at;
        }
      }
    }
    stream.segments.push_back(segment);
    total_ += charge(segment);
    header = std::move(*parsed);
  }
  if (!header) return;
  stream.created_at = header->created_at;
  streams_.insert_or_assign(
      StreamName{.account = account, .group = header->group, .stream = header->stream},
      std::move(stream));
}

Result<void> Logs::Impl::begin_segment(const StreamName& name, Stream& stream) {
  const SegmentHeader header{.created_at = stream.created_at,
                             .position = stream.position,
                             .group = name.group,
                             .stream = name.stream};
  const std::string line = format_header(header);
  HOB_CHECK(write_at(segment_path(stream.directory, stream.number_next), 0, line));
  stream.segments.push_back({.number = stream.number_next, .bytes = line.size()});
  ++stream.number_next;
  total_ += charge(stream.segments.back());
  while (stream.segments.size() > limits_.segments_max) drop_oldest_segment(stream);
  return {};
}

void Logs::Impl::drop_oldest_segment(Stream& stream) {
  const Segment oldest = stream.segments.front();
  ::unlink(segment_path(stream.directory, oldest.number).c_str());
  total_ -= charge(oldest);
  stream.segments.erase(stream.segments.begin());
}

void Logs::Impl::keep_total_bounded(const StreamName& writing) {
  while (total_ > limits_.total_bytes_max) {
    // The segments of the stream that was written longest ago go first; of the stream being written
    // the last stays.
    auto oldest = streams_.end();
    for (auto it = streams_.begin(); it != streams_.end(); ++it) {
      if (it->second.segments.empty() || (it->first == writing && it->second.segments.size() == 1))
        continue;
      if (oldest == streams_.end() || it->second.last_ingested_at < oldest->second.last_ingested_at)
        oldest = it;
    }
    if (oldest == streams_.end()) return;
    drop_oldest_segment(oldest->second);
    if (!oldest->second.segments.empty()) continue;
    std::error_code ignored;
    std::filesystem::remove(oldest->second.directory, ignored);
    log::info("log stream dropped to bound all logs",
              {{"group", oldest->first.group}, {"stream", oldest->first.stream}});
    streams_.erase(oldest);
  }
}

Result<int64_t> Logs::Impl::append(const StreamName& name, const std::vector<link::LogLine>& lines,
                                   std::optional<int64_t> position) {
  HOB_CHECK(check_name(name));
  const Instant now = clock_.now();
  const std::lock_guard lock(mutex_);
  auto found = streams_.find(name);
  if (found == streams_.end()) {
    const std::string hash = hex(sha256(name.group + '\0' + name.stream)).substr(0, 40);
    Stream stream{.directory = directory_ / name.account / hash, .created_at = now};
    HOB_CHECK(make_directories(directory_ / name.account, 0700));
    HOB_CHECK(make_directories(stream.directory, 0700));
    found = streams_.emplace(name, std::move(stream)).first;
  }
  Stream& stream = found->second;
  if (position && *position <= stream.position) return stream.position;

  const int64_t position_after = position.value_or(stream.position);
  std::string batch;
  for (const link::LogLine& line : lines) batch += format_event(line.at, now, line.text);
  batch += format_commit(position_after);
  if (stream.segments.empty() ||
      stream.segments.back().bytes + batch.size() > limits_.segment_bytes_max) {
    HOB_CHECK(begin_segment(name, stream));
  }
  Segment& active = stream.segments.back();
  HOB_CHECK(write_at(segment_path(stream.directory, active.number), active.bytes, batch));
  total_ -= charge(active);
  active.bytes += batch.size();
  total_ += charge(active);
  stream.position = position_after;
  stream.last_ingested_at = now;
  if (!lines.empty()) {
    if (!stream.first_event_at) stream.first_event_at = lines.front().at;
    stream.last_event_at = lines.back().at;
  }
  keep_total_bounded(name);
  return position_after;
}

std::optional<Snapshot> Logs::Impl::snapshot(const StreamName& name) const {
  const std::lock_guard lock(mutex_);
  const auto found = streams_.find(name);
  if (found == streams_.end()) return std::nullopt;
  return Snapshot{.stream = name.stream,
                  .directory = found->second.directory,
                  .segments = found->second.segments};
}

namespace {

// The committed bytes of a segment; empty when it was dropped meanwhile.
Result<std::string> segment_bytes(const Snapshot& stream, const Segment& segment) {
  auto bytes = read_range(segment_path(stream.directory, segment.number), 0, segment.bytes);
  if (!bytes && bytes.error().code == Code::kNotFound) return std::string();
  return bytes;
}

LogEvent event_of(const Snapshot& stream, const Segment& segment, SegmentItem item) {
  return {.stream = stream.stream,
          .at = item.at,
          .ingested_at = item.ingested_at,
          .text = std::move(item.text),
          .place = {.segment = segment.number, .offset = item.offset}};
}

Result<LogPage> read_forward(const Snapshot& stream, const ReadRequest& request) {
  LogPage page{.before = request.place, .after = request.place};
  size_t bytes_read = 0;
  for (const Segment& segment : stream.segments) {
    if (segment.number < request.place.segment) continue;
    HOB_TRY(const std::string bytes, segment_bytes(stream, segment));
    size_t offset = segment.number == request.place.segment ? request.place.offset : 0;
    while (auto item = next_item(bytes, offset)) {
      const size_t end = item->end;
      if (!item->commit && request.range.contains(item->at)) {
        if (page.events.size() == request.limit || bytes_read + item->text.size() > kReadBytesMax)
          return page;
        bytes_read += item->text.size();
        page.events.push_back(event_of(stream, segment, std::move(*item)));
        if (page.events.size() == 1) page.before = page.events.front().place;
        page.after = {.segment = segment.number, .offset = end};
      }
      offset = end;
    }
  }
  return page;
}

Result<LogPage> read_backward(const Snapshot& stream, const ReadRequest& request) {
  std::deque<LogEvent> events;  // oldest first
  StreamPlace after = request.place;
  size_t bytes_read = 0;
  for (auto segment = stream.segments.rbegin(); segment != stream.segments.rend(); ++segment) {
    if (segment->number > request.place.segment) continue;
    HOB_TRY(const std::string bytes, segment_bytes(stream, *segment));
    const size_t stop =
        segment->number == request.place.segment ? request.place.offset : bytes.size();
    // Lines are only found forwards: keep the last ones of this segment that still fit.
    std::deque<std::pair<LogEvent, size_t>> found;
    size_t found_bytes = 0;
    bool full = false;
    size_t offset = 0;
    while (auto item = next_item(bytes, offset)) {
      if (item->offset >= stop) break;
      const size_t end = item->end;
      if (!item->commit && request.range.contains(item->at)) {
        found_bytes += item->text.size();
        found.emplace_back(event_of(stream, *segment, std::move(*item)), end);
        while (!found.empty() && (events.size() + found.size() > request.limit ||
                                  bytes_read + found_bytes > kReadBytesMax)) {
          found_bytes -= found.front().first.text.size();
          found.pop_front();
          full = true;
        }
      }
      offset = end;
    }
    if (events.empty() && !found.empty())
      after = {.segment = segment->number, .offset = found.back().second};
    full = full || events.size() + found.size() == request.limit;
    bytes_read += found_bytes;
    for (auto event = found.rbegin(); event != found.rend(); ++event)
      events.push_front(std::move(event->first));
    if (full) break;
  }
  if (events.empty() && request.place == kStreamEnd && !stream.segments.empty()) {
    after = {.segment = stream.segments.back().number, .offset = stream.segments.back().bytes};
  }
  LogPage page{.before = request.place, .after = after};
  if (!events.empty()) page.before = events.front().place;
  if (events.empty() && request.place == kStreamEnd) page.before = after;
  page.events.assign(std::make_move_iterator(events.begin()),
                     std::make_move_iterator(events.end()));
  return page;
}

auto order_of(Instant at, const std::string& stream, StreamPlace place) {
  return std::tuple(at, stream, place);
}
auto order_of(const LogEvent& event) { return order_of(event.at, event.stream, event.place); }

}  // namespace

Result<LogPage> Logs::Impl::read(const ReadRequest& request) const {
  const auto stream = snapshot(request.name);
  if (!stream)
    return fail(Code::kNotFound, "no log stream {} in {}", request.name.stream, request.name.group);
  return request.direction == ReadDirection::kForward ? read_forward(*stream, request)
                                                      : read_backward(*stream, request);
}

Result<FilterPage> Logs::Impl::filter(const FilterRequest& request) const {
  std::vector<Snapshot> streams;
  if (request.streams.empty()) {
    const auto all = list(request.account, request.group);
    bool group_exists = false;
    for (const StreamSummary& summary : all) {
      if (summary.group != request.group) continue;
      group_exists = true;
      if (!summary.stream.starts_with(request.stream_prefix)) continue;
      if (auto found = snapshot({request.account, request.group, summary.stream}))
        streams.push_back(std::move(*found));
    }
    if (!group_exists) return fail(Code::kNotFound, "no log group {}", request.group);
  }
  for (const std::string& name : request.streams) {
    auto found = snapshot({request.account, request.group, name});
    if (!found) return fail(Code::kNotFound, "no log stream {} in {}", name, request.group);
    streams.push_back(std::move(*found));
  }
  // The earliest after the place that one answer takes, in a heap whose top is the latest.
  const auto later = [](const LogEvent& a, const LogEvent& b) { return order_of(a) < order_of(b); };
  std::vector<LogEvent> heap;
  size_t heap_bytes = 0;
  bool more = false;
  for (const Snapshot& stream : streams) {
    for (const Segment& segment : stream.segments) {
      HOB_TRY(const std::string bytes, segment_bytes(stream, segment));
      size_t offset = 0;
      while (auto item = next_item(bytes, offset)) {
        offset = item->end;
        if (item->commit || !request.range.contains(item->at) ||
            !matches(request.pattern, item->text))
          continue;
        LogEvent event = event_of(stream, segment, std::move(*item));
        if (request.after && order_of(event) <= order_of(request.after->at, request.after->stream,
                                                         request.after->place)) {
          continue;
        }
        heap_bytes += event.text.size();
        heap.push_back(std::move(event));
        std::ranges::push_heap(heap, later);
        while (heap.size() > request.limit || (heap_bytes > kReadBytesMax && heap.size() > 1)) {
          std::ranges::pop_heap(heap, later);
          heap_bytes -= heap.back().text.size();
          heap.pop_back();
          more = true;
        }
      }
    }
  }
  std::ranges::sort_heap(heap, later);
  FilterPage page{.events = std::move(heap)};
  if (more && !page.events.empty()) {
    const LogEvent& last = page.events.back();
    page.next = FilterPlace{.at = last.at, .stream = last.stream, .place = last.place};
  }
  return page;
}

std::vector<StreamSummary> Logs::Impl::list(const std::string& account,
                                            const std::string& group_prefix) const {
  const std::lock_guard lock(mutex_);
  std::vector<StreamSummary> found;
  for (auto it = streams_.lower_bound(StreamName{.account = account, .group = group_prefix});
       it != streams_.end() && it->first.account == account &&
       it->first.group.starts_with(group_prefix);
       ++it) {
    size_t bytes = 0;
    for (const Segment& segment : it->second.segments) bytes += segment.bytes;
    found.push_back({.group = it->first.group,
                     .stream = it->first.stream,
                     .created_at = it->second.created_at,
                     .first_event_at = it->second.first_event_at,
                     .last_event_at = it->second.last_event_at,
                     .last_ingested_at = it->second.last_ingested_at,
                     .stored_bytes = bytes});
  }
  return found;
}

Logs::Logs(std::filesystem::path directory, BlockingPool& pool, Clock& clock, LogLimits limits)
    : impl_(std::make_shared<Impl>(std::move(directory), pool, clock, limits)) {}
Logs::~Logs() = default;

Async<Result<void>> Logs::open() {
  return on_pool(impl_->pool, [impl = impl_] { return impl->open(); });
}

Async<Result<int64_t>> Logs::append(StreamName name, std::vector<link::LogLine> lines,
                                    std::optional<int64_t> position) {
  return on_pool(impl_->pool, [impl = impl_, name = std::move(name), lines = std::move(lines),
                               position] { return impl->append(name, lines, position); });
}

Async<Result<LogPage>> Logs::read(ReadRequest request) {
  return on_pool(impl_->pool,
                 [impl = impl_, request = std::move(request)] { return impl->read(request); });
}

Async<Result<FilterPage>> Logs::filter(FilterRequest request) {
  return on_pool(impl_->pool,
                 [impl = impl_, request = std::move(request)] { return impl->filter(request); });
}

std::vector<StreamSummary> Logs::list(const std::string& account,
                                      const std::string& group_prefix) const {
  return impl_->list(account, group_prefix);
}

}  // namespace hob::observe
