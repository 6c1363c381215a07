// Firecracker's API over one machine: what is asked, in which state, and what is answered.
// docs/microvm.md has the table.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "microvm/api/configuration.h"
#include "microvm/api/http.h"
#include "microvm/loop.h"
#include "microvm/machine/machine.h"

namespace hob::microvm {

inline constexpr std::string_view kFirecrackerVersion = "1.17.0";  // whose API this is

class MicrovmApi {
 public:
  // `on_end`: the guest is over; the process ends after the current turn of the loop.
  MicrovmApi(std::string id, Loop& loop, std::function<void(const VcpuEnd&)> on_end);
  ~MicrovmApi();

  HttpResponse handle(const HttpRequest& request);
  // A configuration file, applied and started. kInvalid with what is wrong.
  Result<void> start_from(std::string_view configuration_file);
  Machine* machine() { return machine_.get(); }

 private:
  enum class When { kBeforeBoot, kAfterBoot, kAlways };
  struct Route;
  static const std::vector<Route>& routes();
  using Answer = Result<HttpResponse>;

  Answer get_instance(const HttpRequest& request, const Json& body);
  Answer get_version(const HttpRequest& request, const Json& body);
  Answer get_machine(const HttpRequest& request, const Json& body);
  Answer get_configuration(const HttpRequest& request, const Json& body);
  Answer put_machine(const HttpRequest& request, const Json& body);
  Answer patch_machine(const HttpRequest& request, const Json& body);
  Answer put_boot_source(const HttpRequest& request, const Json& body);
  Answer put_drive(const HttpRequest& request, const Json& body);
  Answer put_interface(const HttpRequest& request, const Json& body);
  Answer patch_interface(const HttpRequest& request, const Json& body);
  Answer put_vsock(const HttpRequest& request, const Json& body);
  Answer put_action(const HttpRequest& request, const Json& body);
  Answer patch_vm(const HttpRequest& request, const Json& body);

  Result<void> set_boot_source(BootSource source);
  Result<void> set_drive(Drive drive);
  Result<void> set_interface(NetworkInterface interface);
  Result<void> set_interfaces(const Json& list);  // a configuration file's
  Result<void> set_vsock(VsockConfiguration vsock);
  Result<void> start();

  const std::string id_;
  Loop& loop_;
  std::function<void(const VcpuEnd&)> on_end_;
  MachineConfiguration configuration_;
  std::optional<BootSource> boot_source_;
  Fd kernel_;
  Fd initrd_;
  struct OpenDrive {
    Drive drive;
    Fd file;
  };
  std::vector<OpenDrive> drives_;  // the root first
  struct OpenInterface {
    NetworkInterface interface;
    Tap tap;
  };
  std::vector<OpenInterface> interfaces_;
  std::optional<VsockConfiguration> vsock_;
  std::optional<VsockListener> vsock_listener_;  // where vsock_ is
  std::unique_ptr<Machine> machine_;
};

}  // namespace hob::microvm
