#include "builder/workshop.h"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <thread>

#include "builder/build_slot.h"
#include "network/dns_forwarder.h"

namespace hob::builder {

namespace {

// Answers the build's questions for names on a thread of its own, from outside its network.
class NameServer {
 public:
  static Result<std::unique_ptr<NameServer>> start(const std::filesystem::path& vpc) {
    std::unique_ptr<NameServer> made(new NameServer(vpc));
    HOB_CHECK(made->forwarder_.start());
    made->thread_ = std::thread([server = made.get()] { server->loop_.run(); });
    return made;
  }
  ~NameServer() {
    if (!thread_.joinable()) return;
    boost::asio::co_spawn(loop_, forwarder_.stop(), boost::asio::detached);
    work_.reset();
    thread_.join();
  }

 private:
  explicit NameServer(const std::filesystem::path& vpc)
      : work_(loop_.get_executor()), forwarder_({.vpc = vpc}, loop_.get_executor()) {}
  boost::asio::io_context loop_;
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_;
  network::DnsForwarder forwarder_;
  std::thread thread_;
};

}  // namespace

struct Workshop::Rooms {  // in the order they are made
  std::unique_ptr<BuildSlot> slot;
  std::unique_ptr<NameServer> names;
  std::unique_ptr<BuildSandbox> sandbox;
};

Workshop::Workshop(std::filesystem::path state, const std::atomic<bool>& cancelled)
    : state_(std::move(state)), cancelled_(cancelled) {}
Workshop::~Workshop() = default;

Result<BuildSandbox*> Workshop::sandbox() {
  if (rooms_) return rooms_->sandbox.get();
  auto rooms = std::make_unique<Rooms>();
  HOB_TRY(rooms->slot, BuildSlot::take(state_));
  HOB_TRY(rooms->names, NameServer::start(rooms->slot->vpc()));
  HOB_TRY(rooms->sandbox, BuildSandbox::open({.directory = rooms->slot->directory(),
                                              .instance = rooms->slot->instance(),
                                              .network_namespace = rooms->slot->network_namespace(),
                                              .name_server = std::string(network::kVpcDns)},
                                             cancelled_));
  rooms_ = std::move(rooms);
  return rooms_->sandbox.get();
}

}  // namespace hob::builder
