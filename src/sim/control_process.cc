#include "sim/control_process.h"

#include <fmt/core.h>

#include <utility>

namespace hob::sim {

namespace {
constexpr std::string_view kRegistry = "127.0.0.1:4566";
}

void Registry::push(const std::string& repository, const std::string& tag, int number) {
  digests[fmt::format("{}/{}:{}", kRegistry, repository, tag)] =
      fmt::format("sha256:{:064x}", number);
  for (SimImages* each : watchers) each->push();
}

Async<Result<runner::ResolvedImage>> SimImages::resolve(std::string, std::string identifier) {
  const size_t slash = identifier.find('/');
  const size_t end = identifier.find_first_of("@:", slash);
  if (slash == std::string::npos || end == std::string::npos)
    co_return fail(Code::kInvalid, "{} is no image identifier", identifier);
  std::string digest;
  if (identifier[end] == '@') {
    digest = identifier.substr(end + 1);
  } else if (const auto found = registry_.digests.find(identifier);
             found != registry_.digests.end()) {
    digest = found->second;
  } else {
    co_return fail(Code::kNotFound, "there is no image {}", identifier);
  }
  co_return runner::ResolvedImage{
      .source = {.registry = std::string(kRegistry),
                 .repository = identifier.substr(slash + 1, end - slash - 1),
                 .reference = digest},
      .digest = digest};
}

Result<std::string> SimImages::at_digest(const std::string& identifier,
                                         const std::string& digest) const {
  const size_t end = identifier.find_first_of("@:", identifier.find('/'));
  return identifier.substr(0, end) + "@" + digest;
}

bool SimImages::is_ours(const std::string& identifier) const {
  return identifier.starts_with(kRegistry);
}

Async<Result<void>> SimImages::changed() {
  co_await changed_.wait();
  changed_.reset();
  co_return Result<void>();
}

ControlProcess::ControlProcess(store::Store& store, const Executor& executor, BlockingPool& pool,
                               Clock& clock, Random& random, Registry& registry,
                               const std::filesystem::path& logs)
    : logs_(logs, pool, clock),
      images_(registry, executor),
      runner_(store, executor, clock, random, images_, logs_, {}, {.region = "us-east-1"}),
      cluster_(store, executor, clock, random, ports()),
      work_(executor),
      links_(executor),
      calls_(executor) {}

cluster::ClusterPorts ControlProcess::ports() {
  return {.store_logs = [this](link::LogBatch batch) -> Async<Result<void>> {
            observe::StreamName name{
                .account = batch.account, .group = batch.group, .stream = batch.stream};
            HOB_CO_CHECK(
                co_await logs_.append(std::move(name), std::move(batch.lines), batch.position));
            co_return Result<void>{};
          },
          .load = [this](const EdgeId& edge,
                         const link::EdgeReport& report) { runner_.edge_reported(edge, report); }};
}

void ControlProcess::start() {
  work_.spawn("control", [this]() -> Async<> {
    if (!co_await logs_.open()) co_return;
    cluster_.start();
    runner_.start();
  });
}

Async<> ControlProcess::stop() {
  for (AsyncScope* scope : {&calls_, &work_, &links_}) {
    scope->cancel();
    co_await scope->join();
  }
  co_await runner_.stop();
  co_await cluster_.stop();
}

void ControlProcess::serve(std::shared_ptr<link::Session> session) {
  links_.spawn("control link", [this, session] { return cluster_.serve(session); });
}

}  // namespace hob::sim
