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
#include "microvm/api/logger.h"
#include "microvm/api/metrics.h"
#include "microvm/loop.h"
#include "microvm/machine/machine.h"
#include "microvm/mmds/stack.h"

namespace hob::microvm {

inline constexpr std::string_view kFirecrackerVersion = "1.17.0";  // whose API this is

class MicrovmApi {
 public:
  // kSet: a machine's threads, and the loop's once it runs, get their seccomp filters.
  enum class Filters { kNone, kSet };
  // `on_end`: the guest is over; the process ends after the current turn of the loop.
  struct Options {
    Filters filters = Filters::kNone;
    size_t mmds_bytes_max = kHttpBodyBytesDefault;  // of the guest's metadata, in its compact form
    KvmAhead* kvm = nullptr;  // what was begun already; it outlives this. nullptr: nothing was
  };
  MicrovmApi(std::string id, Loop& loop, std::function<void(const VcpuEnd&)> on_end)
      : MicrovmApi(std::move(id), loop, std::move(on_end), Options()) {}
  MicrovmApi(std::string id, Loop& loop, std::function<void(const VcpuEnd&)> on_end,
             Options options);
  ~MicrovmApi();

  HttpResponse handle(const HttpRequest& request);
  // What the guest's metadata is at first (--metadata).
  Result<void> set_metadata(std::string_view json);
  // A configuration file, applied and started. kInvalid with what is wrong.
  Result<void> start_from(std::string_view configuration_file);
  Machine* machine() { return machine_.get(); }
  Logger& logger() { return logger_; }
  // What PUT /metrics does: a line once the guest runs, each kMetricsEvery, and at the end.
  Result<void> start_metrics(MetricsOptions options);

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
  Answer patch_drive(const HttpRequest& request, const Json& body);
  Answer put_pmem(const HttpRequest& request, const Json& body);
  Answer patch_pmem(const HttpRequest& request, const Json& body);
  Answer get_hot_plug(const HttpRequest& request, const Json& body);
  Answer put_hot_plug(const HttpRequest& request, const Json& body);
  Answer patch_hot_plug(const HttpRequest& request, const Json& body);
  Answer put_serial(const HttpRequest& request, const Json& body);
  Answer put_entropy(const HttpRequest& request, const Json& body);
  Answer delete_device(const HttpRequest& request, const Json& body);
  Answer put_interface(const HttpRequest& request, const Json& body);
  Answer patch_interface(const HttpRequest& request, const Json& body);
  Answer put_vsock(const HttpRequest& request, const Json& body);
  Answer put_cpu_configuration(const HttpRequest& request, const Json& body);
  Answer get_balloon(const HttpRequest& request, const Json& body);
  Answer put_balloon(const HttpRequest& request, const Json& body);
  Answer patch_balloon(const HttpRequest& request, const Json& body);
  Answer get_balloon_statistics(const HttpRequest& request, const Json& body);
  Answer patch_balloon_statistics(const HttpRequest& request, const Json& body);
  Answer start_hints(const HttpRequest& request, const Json& body);
  Answer get_hints(const HttpRequest& request, const Json& body);
  Answer stop_hints(const HttpRequest& request, const Json& body);
  Answer get_mmds(const HttpRequest& request, const Json& body);
  Answer put_mmds(const HttpRequest& request, const Json& body);
  Answer patch_mmds(const HttpRequest& request, const Json& body);
  Answer put_mmds_config(const HttpRequest& request, const Json& body);
  Answer put_logger(const HttpRequest& request, const Json& body);
  Answer put_metrics(const HttpRequest& request, const Json& body);
  Answer put_action(const HttpRequest& request, const Json& body);
  Answer put_snapshot_create(const HttpRequest& request, const Json& body);
  Answer put_snapshot_load(const HttpRequest& request, const Json& body);
  Answer patch_vm(const HttpRequest& request, const Json& body);

  Result<void> set_boot_source(BootSource source);
  Result<void> set_cpu_from_file(const Json& json);  // a configuration file's: itself, or its path
  Result<void> set_machine(MachineConfiguration machine,
                           std::optional<StaticTemplate> cpu_template);
  Result<void> set_balloon(const BalloonOptions& balloon);
  Answer with_balloon(const std::function<Answer(Balloon&, BalloonOptions&)>& change);
  Answer change_hints(const std::function<HttpResponse(Balloon&)>& change);
  Result<void> set_drive(Drive drive);
  Result<void> check_device_count() const;
  Result<MachineOptions> machine_options();
  Result<void> narrow_filter();
  Result<void> set_interface(NetworkInterface interface);
  Result<void> set_interfaces(const Json& list);  // a configuration file's
  Result<void> set_pmem(PmemConfiguration pmem);
  Result<void> set_pmems(const Json& list);  // a configuration file's
  Result<void> set_hot_plug(const HotPlugOptions& hot_plug);
  Result<void> set_vsock(VsockConfiguration vsock);
  Result<void> set_entropy(const RateLimiterOptions& limit);
  Result<void> set_mmds(MmdsConfiguration mmds);
  // What the guest may learn; made when it is first spoken of. nullptr: never before boot.
  Metadata* metadata();
  std::unique_ptr<FrameResponder> responder_of(const NetworkInterface& interface);
  HttpResponse respond(const HttpRequest& request);
  void log_request(const HttpRequest& request);
  void log_outcome(const HttpResponse& response);
  // How often each was asked for, and refused. As Firecracker's metrics name it: "drive".
  struct RequestCount {
    std::string_view method;
    std::string_view path;  // of its routes' beginning
    std::string_view name;
    uint64_t count = 0, failures = 0;
  };
  static std::vector<RequestCount> no_requests();
  void count_request(const HttpRequest& request, bool failed);
  std::vector<CounterGroup> counter_groups() const;
  void write_metrics();
  Result<void> write_metrics_regularly();
  Result<void> start();
  static bool configures_boot(const Route& route);
  Result<void> create_snapshot(const struct SnapshotCreation& creation);
  Result<void> load_snapshot(const struct SnapshotLoading& loading);
  Result<void> restore_interfaces(const struct SnapshotLoading& loading,
                                  std::vector<NetworkInterface> saved);
  Result<GuestMemory> load_memory(const struct SnapshotLoading& loading);

  const std::string id_;
  Loop& loop_;
  std::function<void(const VcpuEnd&)> on_end_;
  const Filters filters_;
  KvmAhead* const kvm_;
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
  CpuTemplate cpu_;
  std::optional<BalloonOptions> balloon_;
  std::vector<OpenInterface> interfaces_;
  std::vector<PmemConfiguration> pmems_;  // the files are opened when the machine is made
  std::optional<HotPlugOptions> hot_plug_;
  bool configured_ = false;  // something was asked for that a snapshot would bring
  bool deprecated_ = false;  // the request at hand used a field that goes
  Fd faults_;                // of memory that another process fills
  Fd fault_handler_;
  std::optional<VsockConfiguration> vsock_;
  std::optional<VsockListener> vsock_listener_;  // where vsock_ is
  std::optional<RateLimiterOptions> entropy_;    // none: no such device
  Fd serial_output_;                             // none: standard output
  std::optional<TokenBucketOptions> serial_limit_;
  const size_t mmds_bytes_max_;
  Logger logger_;
  Metrics metrics_;
  std::unique_ptr<Timer> metrics_timer_;
  std::vector<RequestCount> requests_ = no_requests();
  uint64_t deprecated_requests_ = 0;
  struct Took {  // the last of each
    std::chrono::microseconds pause{0}, resume{0}, full_snapshot{0}, diff_snapshot{0}, load{0};
  } took_;
  std::vector<const MetadataStack*> stacks_;  // the machine's interfaces'
  std::optional<MmdsConfiguration> mmds_;
  std::unique_ptr<Metadata> metadata_;
  std::unique_ptr<Machine> machine_;
};

}  // namespace hob::microvm
