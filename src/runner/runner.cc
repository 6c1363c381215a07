#include "runner/runner.h"

#include "runner/api.h"
#include "runner/controller.h"
#include "runner/staple_controller.h"

namespace hob::runner {

class Runner::Parts {
 public:
  Parts(store::Store& store, Executor executor, Clock& clock, Random& random, Images& images,
        observe::Logs& logs, DomainPorts domain_ports, RunnerOptions options)
      : api(store, clock, random, images,
            {.region = options.region,
             .url_suffix = options.url_suffix,
             .sealing_key = options.sealing_key}),
        controller(store, executor, clock, random, images, logs, options.builders),
        domains(store, executor, clock, random, domain_ports) {
    if (domain_ports.fetcher != nullptr)
      staples.emplace(store, executor, clock, *domain_ports.fetcher, domain_ports.responders);
  }

  Api api;
  Controller controller;
  DomainController domains;
  std::optional<StapleController> staples;
};

Runner::Runner(store::Store& store, Executor executor, Clock& clock, Random& random, Images& images,
               observe::Logs& logs, DomainPorts domain_ports, RunnerOptions options)
    : parts_(std::make_unique<Parts>(store, executor, clock, random, images, logs,
                                     std::move(domain_ports), std::move(options))) {}
Runner::~Runner() = default;

void Runner::start() {
  parts_->controller.start();
  if (parts_->staples) parts_->staples->start();
  parts_->domains.start();
}
Async<> Runner::stop() {
  co_await parts_->domains.stop();
  if (parts_->staples) co_await parts_->staples->stop();
  co_await parts_->controller.stop();
}
void Runner::edge_reported(const EdgeId& edge, const link::EdgeReport& report) {
  parts_->controller.edge_reported(edge, report);
}
void Runner::build_reported(link::BuildReport report) {
  parts_->controller.build_reported(std::move(report));
}
Api& Runner::api() { return parts_->api; }

}  // namespace hob::runner
