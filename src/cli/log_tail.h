// Reads log streams through CloudWatch Logs' API: the newest lines, then what comes.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/async.h"
#include "base/result.h"
#include "cli/context.h"

namespace hob::cli {

inline constexpr int kStreamsTailedMax = 50;  // newest streams of a group

struct TailedLine {
  int64_t at = 0;  // ms since 1970
  std::string stream{};
  std::string text{};
  size_t order = 0;  // as read
};

class LogTail {
 public:
  // stream: empty: all of the group.
  LogTail(Api api, std::string group, std::string stream = {})
      : api_(std::move(api)), group_(std::move(group)), stream_(std::move(stream)) {}
  // The last `count` lines, none older than `since` (ms since 1970), in order of time. An empty
  // group, or none, is no error.
  Async<Result<std::vector<TailedLine>>> last(int count, int64_t since = 0);
  // Lines since the last call (the first: from the beginning of each stream), in order of time.
  // What cannot be read now comes with a later call.
  Async<std::vector<TailedLine>> next();

 private:
  Async<Result<std::vector<std::string>>> streams();
  Async<Result<std::vector<TailedLine>>> read(std::string stream, int limit, bool from_head,
                                              int64_t since = 0);

  Api api_;
  std::string group_;
  std::string stream_;
  std::map<std::string, std::string> tokens_{};  // stream -> where to go on
};

}  // namespace hob::cli
