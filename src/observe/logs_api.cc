#include "observe/logs_api.h"

#include <algorithm>
#include <charconv>
#include <map>

#include "aws/logs/errors.h"
#include "base/digest.h"
#include "observe/logs_token.h"

namespace hob::observe {

namespace {

using namespace aws::logs;

int64_t ms(Instant at) { return at.time_since_epoch().count(); }
std::optional<int64_t> ms(const std::optional<Instant>& at) {
  return at ? std::optional(ms(*at)) : std::nullopt;
}

std::unexpected<Error> no_such_group() {
  return resource_not_found_exception("The specified log group does not exist.");
}
std::unexpected<Error> no_such_stream() {
  return resource_not_found_exception("The specified log stream does not exist.");
}
std::unexpected<Error> bad_token() {
  return invalid_parameter_exception("The specified nextToken is invalid.");
}

TimeRange range_of(const std::optional<int64_t>& from, const std::optional<int64_t>& to,
                   bool to_is_inside) {
  TimeRange range;
  if (from) range.from = Instant(Duration(*from));
  if (to) range.to = Instant(Duration(to_is_inside && *to < INT64_MAX ? *to + 1 : *to));
  return range;
}

// The items after the token (the last name shown, in base64), at most `limit`; sets the next token.
template <class Item, class NameOf>
Result<std::vector<Item>> page_of(std::vector<Item> items, const std::optional<std::string>& token,
                                  size_t limit, NameOf name_of,
                                  std::optional<std::string>& next_token) {
  size_t begin = 0;
  if (token) {
    // The place is told by name and, should that be gone, by number.
    const auto text = unbase64(*token);
    const size_t colon = text ? text->find(':') : std::string::npos;
    size_t number = 0;
    if (colon == std::string::npos) return bad_token();
    const auto [end, error] = std::from_chars(text->data(), text->data() + colon, number);
    if (error != std::errc{} || end != text->data() + colon) return bad_token();
    const auto named = std::ranges::find(items, text->substr(colon + 1), name_of);
    begin = named != items.end() ? static_cast<size_t>(named - items.begin()) + 1
                                 : std::min(number, items.size());
  }
  const size_t end = begin + std::min(limit, items.size() - begin);
  if (end < items.size()) next_token = base64(fmt::format("{}:{}", end, name_of(items[end - 1])));
  return std::vector<Item>(items.begin() + static_cast<ptrdiff_t>(begin),
                           items.begin() + static_cast<ptrdiff_t>(end));
}

bool contains_ignoring_case(std::string_view text, std::string_view part) {
  const auto lower = [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  };
  return part.empty() || !std::ranges::search(text, part, {}, lower, lower).empty();
}

}  // namespace

std::string LogsApi::group_arn(const std::string& account, const std::string& group) const {
  return fmt::format("arn:aws:logs:{}:{}:log-group:{}", region_, account, group);
}

Result<std::string> LogsApi::group_of(const std::optional<std::string>& name,
                                      const std::optional<std::string>& identifier,
                                      const aws::Caller& caller) const {
  if (name.has_value() == identifier.has_value()) {
    return invalid_parameter_exception("Give either logGroupName or logGroupIdentifier.");
  }
  if (name) return *name;
  if (!identifier->starts_with("arn:")) return *identifier;
  const std::string prefix = group_arn(caller.account, "");
  std::string group = *identifier;
  if (group.ends_with(":*")) group.resize(group.size() - 2);
  if (!group.starts_with(prefix)) return no_such_group();
  return group.substr(prefix.size());
}

Async<Result<DescribeLogGroupsResponse>> LogsApi::describe_log_groups(
    DescribeLogGroupsRequest request, aws::Caller caller) {
  if (request.log_group_name_prefix && request.log_group_name_pattern) {
    co_return invalid_parameter_exception(
        "LogGroup name prefix and LogGroup name pattern are mutually exclusive parameters.");
  }
  std::map<std::string, LogGroup> groups;
  for (const StreamSummary& stream :
       logs_.list(caller.account, request.log_group_name_prefix.value_or(""))) {
    if (!contains_ignoring_case(stream.group, request.log_group_name_pattern.value_or("")))
      continue;
    LogGroup& group = groups[stream.group];
    group.log_group_name = stream.group;
    group.creation_time = std::min(group.creation_time.value_or(INT64_MAX), ms(stream.created_at));
    group.stored_bytes = group.stored_bytes.value_or(0) + static_cast<int64_t>(stream.stored_bytes);
    group.metric_filter_count = 0;
    group.log_group_class = "STANDARD";
    group.log_group_arn = group_arn(caller.account, stream.group);
    group.arn = *group.log_group_arn + ":*";
  }
  std::vector<LogGroup> all;
  for (auto& [name, group] : groups) all.push_back(std::move(group));
  DescribeLogGroupsResponse response;
  const size_t limit = static_cast<size_t>(request.limit.value_or(kDescribeDefault));
  const auto name_of = [](const LogGroup& group) { return *group.log_group_name; };
  HOB_CO_TRY(response.log_groups,
             page_of(std::move(all), request.next_token, limit, name_of, response.next_token));
  co_return response;
}

Async<Result<DescribeLogStreamsResponse>> LogsApi::describe_log_streams(
    DescribeLogStreamsRequest request, aws::Caller caller) {
  HOB_CO_TRY(const std::string group,
             group_of(request.log_group_name, request.log_group_identifier, caller));
  const bool by_time = request.order_by.value_or("LogStreamName") == "LastEventTime";
  if (by_time && request.log_stream_name_prefix) {
    co_return invalid_parameter_exception(
        "Cannot order by LastEventTime with a logStreamNamePrefix.");
  }
  bool exists = false;
  std::vector<LogStream> all;
  for (const StreamSummary& stream : logs_.list(caller.account, group)) {
    if (stream.group != group) continue;
    exists = true;
    if (!stream.stream.starts_with(request.log_stream_name_prefix.value_or(""))) continue;
    all.push_back(
        {.log_stream_name = stream.stream,
         .creation_time = ms(stream.created_at),
         .first_event_timestamp = ms(stream.first_event_at),
         .last_event_timestamp = ms(stream.last_event_at),
         .last_ingestion_time = ms(stream.last_ingested_at),
         .arn = fmt::format("{}:log-stream:{}", group_arn(caller.account, group), stream.stream),
         .stored_bytes = static_cast<int64_t>(stream.stored_bytes)});
  }
  if (!exists) co_return no_such_group();
  const auto name_of = [](const LogStream& stream) { return *stream.log_stream_name; };
  if (by_time) {
    std::ranges::sort(all, {}, [](const LogStream& stream) {
      return std::pair(stream.last_event_timestamp.value_or(0), *stream.log_stream_name);
    });
  }
  if (request.descending.value_or(false)) std::ranges::reverse(all);
  DescribeLogStreamsResponse response;
  const size_t limit = static_cast<size_t>(request.limit.value_or(kDescribeDefault));
  HOB_CO_TRY(response.log_streams,
             page_of(std::move(all), request.next_token, limit, name_of, response.next_token));
  co_return response;
}

Async<Result<GetLogEventsResponse>> LogsApi::get_log_events(GetLogEventsRequest request,
                                                            aws::Caller caller) {
  HOB_CO_TRY(const std::string group,
             group_of(request.log_group_name, request.log_group_identifier, caller));
  ReadRequest read{
      .name = {caller.account, group, request.log_stream_name},
      .range = range_of(request.start_time, request.end_time, false),
      .limit = static_cast<size_t>(request.limit.value_or(static_cast<int>(kReadEventsMax)))};
  if (request.next_token) {
    const auto token = parse_page_token(*request.next_token);
    if (!token) co_return bad_token();
    read.place = token->place;
    read.direction = token->direction;
  } else if (!request.start_from_head.value_or(false)) {
    read.place = kStreamEnd;
    read.direction = ReadDirection::kBackward;
  }
  auto page = co_await logs_.read(std::move(read));
  if (!page && page.error().code == Code::kNotFound) {
    const auto streams = logs_.list(caller.account, group);
    const bool group_exists =
        std::ranges::find(streams, group, &StreamSummary::group) != streams.end();
    if (group_exists) co_return no_such_stream();
    co_return no_such_group();
  }
  if (!page) co_return fail(std::move(page).error());
  GetLogEventsResponse response{
      .events = std::vector<OutputLogEvent>{},
      .next_forward_token =
          format_token({.direction = ReadDirection::kForward, .place = page->after}),
      .next_backward_token =
          format_token({.direction = ReadDirection::kBackward, .place = page->before})};
  for (LogEvent& event : page->events) {
    response.events->push_back({.timestamp = ms(event.at),
                                .message = std::move(event.text),
                                .ingestion_time = ms(event.ingested_at)});
  }
  co_return response;
}

Async<Result<FilterLogEventsResponse>> LogsApi::filter_log_events(FilterLogEventsRequest request,
                                                                  aws::Caller caller) {
  HOB_CO_TRY(const std::string group,
             group_of(request.log_group_name, request.log_group_identifier, caller));
  if (request.log_stream_names && request.log_stream_name_prefix) {
    co_return invalid_parameter_exception(
        "logStreamNamePrefix and logStreamNames are mutually exclusive parameters.");
  }
  FilterRequest filter{
      .account = caller.account,
      .group = group,
      .streams = request.log_stream_names.value_or(std::vector<std::string>{}),
      .stream_prefix = request.log_stream_name_prefix.value_or(""),
      .range = range_of(request.start_time, request.end_time, true),
      .limit = static_cast<size_t>(request.limit.value_or(static_cast<int>(kReadEventsMax)))};
  auto pattern = parse_filter_pattern(request.filter_pattern.value_or(""));
  if (!pattern) co_return invalid_parameter_exception(pattern.error().message);
  filter.pattern = std::move(*pattern);
  if (request.next_token) {
    filter.after = parse_filter_token(*request.next_token);
    if (!filter.after) co_return bad_token();
  }
  auto page = co_await logs_.filter(std::move(filter));
  if (!page && page.error().code == Code::kNotFound) {
    const auto streams = logs_.list(caller.account, group);
    const bool group_exists =
        std::ranges::find(streams, group, &StreamSummary::group) != streams.end();
    if (group_exists) co_return no_such_stream();
    co_return no_such_group();
  }
  if (!page) co_return fail(std::move(page).error());
  FilterLogEventsResponse response{.events = std::vector<FilteredLogEvent>{},
                                   .searched_log_streams = std::vector<SearchedLogStream>{}};
  for (LogEvent& event : page->events) {
    const std::string id = event_id(event);
    response.events->push_back({.log_stream_name = std::move(event.stream),
                                .timestamp = ms(event.at),
                                .message = std::move(event.text),
                                .ingestion_time = ms(event.ingested_at),
                                .event_id = id});
  }
  if (page->next) response.next_token = format_token(*page->next);
  co_return response;
}

}  // namespace hob::observe
