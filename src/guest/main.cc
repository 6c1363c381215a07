// hob-guest: process 1 of a microVM.
#include <linux/vm_sockets.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>

#include "guest/init.h"
#include "guest/machine.h"

namespace hob::guest {
namespace {

sockaddr_vm address(unsigned cid, unsigned port) {
  sockaddr_vm vm{};
  vm.svm_family = AF_VSOCK;
  vm.svm_cid = cid;
  vm.svm_port = port;
  return vm;
}

Result<void> run() {
  HOB_CHECK(set_up_machine());
  Fd orders(::socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const sockaddr_vm own = address(VMADDR_CID_ANY, kOrderPort);
  if (!orders || ::bind(orders.get(), reinterpret_cast<const sockaddr*>(&own), sizeof own) != 0 ||
      ::listen(orders.get(), static_cast<int>(kOrderConnectionsMax)) != 0)
    return fail_errno(errno, "listening for orders");
  Fd report(::socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const sockaddr_vm host = address(VMADDR_CID_HOST, kReportPort);
  if (!report ||
      ::connect(report.get(), reinterpret_cast<const sockaddr*>(&host), sizeof host) != 0)
    return fail_errno(errno, "connecting to the host");
  return Init(std::move(report), std::move(orders)).run();
}

}  // namespace
}  // namespace hob::guest

int main() {
  // What goes wrong before the host is reached is on the console alone.
  if (const auto done = hob::guest::run(); !done) {
    const std::string text = "hob-guest: " + done.error().message + "\n";
    (void)!::write(2, text.data(), text.size());
  }
  hob::guest::end_machine();
}
