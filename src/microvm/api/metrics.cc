#include "microvm/api/metrics.h"

#include <unistd.h>

#include <cerrno>

#include "microvm/api/logger.h"

namespace hob::microvm {

Result<void> Metrics::start(MetricsOptions options) {
  if (file_) return fail(Code::kExists, "Reinitialization of metrics not allowed.");
  HOB_TRY(file_, open_for_lines(options.path));
  options_ = std::move(options);
  return {};
}

void Metrics::write(const std::vector<CounterGroup>& groups, int64_t utc_ms) {
  if (!file_) return;
  Json::Object line = {{"utc_timestamp_ms", Json(Json::Value(static_cast<uint64_t>(utc_ms)))}};
  if (options_.emit_id) line.emplace_back("id", Json(Json::Value(id_)));
  if (!options_.properties.is_null()) line.emplace_back("properties", options_.properties);
  std::map<std::string, uint64_t> totals;
  for (const CounterGroup& group : groups) {
    Json::Object members;
    for (const Counter& counter : group.counters) {
      const std::string key = group.name + "." + counter.name;
      const auto before = written_.find(key);
      const uint64_t base = counter.absolute || before == written_.end() ? 0 : before->second;
      members.emplace_back(counter.name, Json(Json::Value(counter.value - base)));
      totals[key] = counter.value;
    }
    line.emplace_back(group.name, Json(std::move(members)));
  }
  const std::string text = Json(std::move(line)).text() + "\n";
  ssize_t written = 0;
  do {
    written = ::write(file_.get(), text.data(), text.size());
  } while (written < 0 && errno == EINTR);
  if (written == static_cast<ssize_t>(text.size()))
    written_ = std::move(totals);
  else
    ++missed_;
}

}  // namespace hob::microvm
