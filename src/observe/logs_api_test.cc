#include "observe/logs_api.h"

#include <gtest/gtest.h>

#include <boost/asio/io_context.hpp>
#include <cstdlib>
#include <filesystem>

#include "observe/logs_token.h"

namespace hob::observe {
namespace {

using namespace aws::logs;

class FixedClock final : public Clock {
 public:
  Instant now() const override { return Instant(Duration(5'000)); }
};

class LogsApiTest : public testing::Test {
 protected:
  LogsApiTest() {
    std::string pattern = (std::filesystem::temp_directory_path() / "hob-logs-api-XXXXXX").string();
    directory_ = mkdtemp(pattern.data());
    logs_ = std::make_unique<Logs>(directory_, pool_, clock_);
    EXPECT_TRUE(run(logs_->open()));
    for (int i = 0; i < 5; ++i)
      append("/g/a", i % 2 ? "odd" : "even", i * 10, "line " + std::to_string(i));
    append("/g/b", "s", 7, "other");
  }
  ~LogsApiTest() override {
    logs_.reset();
    std::filesystem::remove_all(directory_);
  }
  template <class T>
  T run(Async<T> work) {
    std::optional<T> value;
    scope_.spawn("test", [](Async<T> body, std::optional<T>& into) -> Async<> {
      into.emplace(co_await std::move(body));
    }(std::move(work), value));
    loop_.restart();
    loop_.run();
    return std::move(*value);
  }
  void append(const std::string& group, const std::string& stream, int at,
              const std::string& text) {
    std::vector<link::LogLine> lines{{.at = Instant(Duration(at)), .text = text}};
    ASSERT_TRUE(
        run(logs_->append({"000000000001", group, stream}, std::move(lines), std::nullopt)));
  }
  aws::Caller caller() { return {.account = "000000000001"}; }
  static std::string texts(const auto& events) {
    std::string all;
    for (const auto& event : *events) all += (all.empty() ? "" : ",") + *event.message;
    return all;
  }

  boost::asio::io_context loop_{1};
  AsyncScope scope_{loop_.get_executor()};
  BlockingPool pool_{1};
  FixedClock clock_;
  std::filesystem::path directory_;
  std::unique_ptr<Logs> logs_;
  LogsApi& api() {
    if (!api_) api_ = std::make_unique<LogsApi>(*logs_, "us-east-1");
    return *api_;
  }
  std::unique_ptr<LogsApi> api_;
};

TEST_F(LogsApiTest, DescribesGroupsAndStreams) {
  const auto groups = run(api().describe_log_groups({.log_group_name_prefix = "/g"}, caller()));
  ASSERT_EQ(groups->log_groups->size(), 2u);
  EXPECT_EQ(groups->log_groups->at(0).arn, "arn:aws:logs:us-east-1:000000000001:log-group:/g/a:*");
  EXPECT_EQ(groups->log_groups->at(0).creation_time, 5'000);
  const auto first = run(api().describe_log_groups({.limit = 1}, caller()));
  EXPECT_EQ(first->log_groups->at(0).log_group_name, "/g/a");
  const auto second =
      run(api().describe_log_groups({.next_token = first->next_token, .limit = 1}, caller()));
  EXPECT_EQ(second->log_groups->at(0).log_group_name, "/g/b");
  EXPECT_FALSE(second->next_token);
  EXPECT_EQ(run(api().describe_log_groups({.log_group_name_pattern = "/B"}, caller()))
                ->log_groups->size(),
            1u);

  const auto streams = run(api().describe_log_streams(
      {.log_group_name = "/g/a", .order_by = "LastEventTime", .descending = true}, caller()));
  ASSERT_EQ(streams->log_streams->size(), 2u);
  EXPECT_EQ(streams->log_streams->at(0).log_stream_name, "even");
  EXPECT_EQ(streams->log_streams->at(0).first_event_timestamp, 0);
  EXPECT_EQ(streams->log_streams->at(0).last_event_timestamp, 40);
  const auto by_arn = run(api().describe_log_streams(
      {.log_group_identifier = "arn:aws:logs:us-east-1:000000000001:log-group:/g/a"}, caller()));
  EXPECT_EQ(by_arn->log_streams->size(), 2u);
}

TEST_F(LogsApiTest, GetsEventsForwardAndBackward) {
  GetLogEventsRequest request{
      .log_group_name = "/g/a", .log_stream_name = "even", .limit = 2, .start_from_head = true};
  const auto first = run(api().get_log_events(request, caller()));
  EXPECT_EQ(texts(first->events), "line 0,line 2");
  request.next_token = first->next_forward_token;
  const auto second = run(api().get_log_events(request, caller()));
  EXPECT_EQ(texts(second->events), "line 4");
  request.next_token = second->next_forward_token;
  const auto end = run(api().get_log_events(request, caller()));
  EXPECT_EQ(texts(end->events), "");
  EXPECT_EQ(end->next_forward_token, request.next_token);
  append("/g/a", "even", 60, "line 6");
  EXPECT_EQ(texts(run(api().get_log_events(request, caller()))->events), "line 6");
  request.next_token = second->next_backward_token;
  EXPECT_EQ(texts(run(api().get_log_events(request, caller()))->events), "line 0,line 2");
  const auto tail = run(api().get_log_events(
      {.log_group_name = "/g/a", .log_stream_name = "even", .limit = 1}, caller()));
  EXPECT_EQ(texts(tail->events), "line 6");
  const auto range = run(api().get_log_events(
      {.log_group_name = "/g/a", .log_stream_name = "even", .start_time = 20, .end_time = 40},
      caller()));
  EXPECT_EQ(texts(range->events), "line 2");  // the end is not part of it
}

TEST_F(LogsApiTest, FiltersEvents) {
  const auto all = run(api().filter_log_events({.log_group_name = "/g/a"}, caller()));
  EXPECT_EQ(texts(all->events), "line 0,line 1,line 2,line 3,line 4");
  EXPECT_NE(all->events->at(0).event_id, all->events->at(1).event_id);
  EXPECT_EQ(all->events->at(0).event_id->size(), 56u);
  const auto some = run(api().filter_log_events(
      {.log_group_name = "/g/a", .end_time = 30, .filter_pattern = "?1 ?3", .limit = 1}, caller()));
  EXPECT_EQ(texts(some->events), "line 1");
  const auto rest = run(api().filter_log_events({.log_group_name = "/g/a",
                                                 .end_time = 30,
                                                 .filter_pattern = "?1 ?3",
                                                 .next_token = some->next_token},
                                                caller()));
  EXPECT_EQ(texts(rest->events), "line 3");
}

TEST_F(LogsApiTest, SaysWhatIsWrongAsAwsDoes) {
  const auto group =
      run(api().get_log_events({.log_group_name = "/none", .log_stream_name = "s"}, caller()));
  EXPECT_EQ(group.error().aws_code, "ResourceNotFoundException");
  EXPECT_EQ(group.error().message, "The specified log group does not exist.");
  EXPECT_EQ(
      run(api().get_log_events({.log_group_name = "/g/a", .log_stream_name = "none"}, caller()))
          .error()
          .message,
      "The specified log stream does not exist.");
  EXPECT_EQ(run(api().describe_log_streams({.log_group_name = "/g"}, caller())).error().aws_code,
            "ResourceNotFoundException");
  EXPECT_EQ(run(api().filter_log_events({.log_group_name = "/none"}, caller())).error().aws_code,
            "ResourceNotFoundException");
  EXPECT_EQ(run(api().filter_log_events({.log_group_name = "/g/a"}, {.account = "000000000002"}))
                .error()
                .aws_code,
            "ResourceNotFoundException");
  for (const char* token : {"", "nonsense", "f/", "f/1:2", "f/1:2/x", "g/1:2/s", "f/-1:0/s",
                            "f/99999999999999999999:0/s"}) {
    EXPECT_EQ(run(api().get_log_events(
                      {.log_group_name = "/g/a", .log_stream_name = "odd", .next_token = token},
                      caller()))
                  .error()
                  .aws_code,
              "InvalidParameterException")
        << token;
    EXPECT_FALSE(
        run(api().filter_log_events({.log_group_name = "/g/a", .next_token = token}, caller())))
        << token;
    EXPECT_FALSE(run(api().describe_log_groups({.next_token = token}, caller()))) << token;
  }
  EXPECT_EQ(run(api().filter_log_events({.log_group_name = "/g/a", .filter_pattern = "{ $.a = 1 }"},
                                        caller()))
                .error()
                .aws_code,
            "InvalidParameterException");
  EXPECT_FALSE(run(api().get_log_events({.log_stream_name = "s"}, caller())));
  EXPECT_FALSE(run(api().describe_log_streams(
      {.log_group_name = "/g/a", .log_stream_name_prefix = "e", .order_by = "LastEventTime"},
      caller())));
}

TEST(LogsToken, GoesOutAndComesBack) {
  const PageToken token{.direction = ReadDirection::kBackward, .place = kStreamEnd};
  EXPECT_EQ(parse_page_token(format_token(token)), token);
  const FilterPlace place{.at = Instant(Duration(-5)), .stream = "a:b", .place = {3, 4}};
  const auto read = parse_filter_token(format_token(place));
  ASSERT_TRUE(read);
  EXPECT_EQ(read->at, place.at);
  EXPECT_EQ(read->stream, place.stream);
  EXPECT_EQ(read->place, place.place);
}

}  // namespace
}  // namespace hob::observe
