#include "cli/log_tail.h"

#include <algorithm>
#include <boost/json.hpp>

namespace hob::cli {
namespace {

namespace json = boost::json;

constexpr int kReadMax = 10'000;  // the service's own

// By time; lines of one time stay as they were read.
void sort_by_time(std::vector<TailedLine>& lines) {
  for (size_t i = 0; i < lines.size(); ++i) lines[i].order = i;
  std::ranges::sort(lines, {},
                    [](const TailedLine& line) { return std::pair(line.at, line.order); });
}

bool is_missing(const Error& error) { return error.aws_code == "ResourceNotFoundException"; }

}  // namespace

Async<Result<std::vector<std::string>>> LogTail::streams() {
  if (!stream_.empty()) co_return std::vector<std::string>{stream_};
  std::vector<std::string> names;
  json::object input = {{"logGroupName", group_},
                        {"limit", kStreamsTailedMax},
                        {"orderBy", "LastEventTime"},
                        {"descending", true}};
  Result<json::object> page =
      co_await api_.call("logs", "Logs_20140328.DescribeLogStreams", std::move(input));
  if (!page && is_missing(page.error())) co_return names;
  if (!page) co_return fail(std::move(page).error());
  const json::value* list = page->if_contains("logStreams");
  if (list != nullptr && list->is_array()) {
    for (const json::value& stream : list->as_array()) {
      if (stream.is_object()) names.push_back(text_at(stream.as_object(), "logStreamName"));
    }
  }
  co_return names;
}

Async<Result<std::vector<TailedLine>>> LogTail::read(std::string stream, int limit, bool from_head,
                                                     int64_t since) {
  json::object input = {{"logGroupName", group_},
                        {"logStreamName", stream},
                        {"limit", limit},
                        {"startFromHead", from_head}};
  if (since > 0) input["startTime"] = since;
  if (const auto token = tokens_.find(stream); token != tokens_.end()) {
    input["nextToken"] = token->second;
    input["startFromHead"] = true;
  }
  std::vector<TailedLine> lines;
  Result<json::object> page =
      co_await api_.call("logs", "Logs_20140328.GetLogEvents", std::move(input));
  if (!page && is_missing(page.error())) co_return lines;
  if (!page) co_return fail(std::move(page).error());
  if (std::string token = text_at(*page, "nextForwardToken"); !token.empty())
    tokens_[stream] = std::move(token);
  const json::value* list = page->if_contains("events");
  if (list != nullptr && list->is_array()) {
    for (const json::value& event : list->as_array()) {
      if (!event.is_object()) continue;
      const json::value* at = event.as_object().if_contains("timestamp");
      lines.push_back({.at = at != nullptr && at->is_int64() ? at->as_int64() : 0,
                       .stream = stream,
                       .text = text_at(event.as_object(), "message")});
    }
  }
  co_return lines;
}

Async<Result<std::vector<TailedLine>>> LogTail::last(int count, int64_t since) {
  HOB_CO_TRY(std::vector<std::string> names, co_await streams());
  std::vector<TailedLine> all;
  for (const std::string& name : names) {
    HOB_CO_TRY(std::vector<TailedLine> lines,
               co_await read(name, std::min(count, kReadMax), false, since));
    all.insert(all.end(), lines.begin(), lines.end());
  }
  sort_by_time(all);
  if (all.size() > static_cast<size_t>(count)) all.erase(all.begin(), all.end() - count);
  co_return all;
}

Async<std::vector<TailedLine>> LogTail::next() {
  std::vector<TailedLine> all;
  Result<std::vector<std::string>> names = co_await streams();
  if (!names) co_return all;
  for (const std::string& name : *names) {
    Result<std::vector<TailedLine>> lines = co_await read(name, kReadMax, true);
    if (lines) all.insert(all.end(), lines->begin(), lines->end());
  }
  sort_by_time(all);
  co_return all;
}

}  // namespace hob::cli
