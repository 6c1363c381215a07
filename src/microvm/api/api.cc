#include "microvm/api/api.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

#include "microvm/api/answers.h"
#include "microvm/jail/filter.h"
#include "microvm/layout.h"

namespace hob::microvm {
namespace {

constexpr std::string_view kDefaultArguments =
    "reboot=k panic=1 nomodule 8250.nr_uarts=0 i8042.noaux i8042.nomux i8042.dumbkbd "
    "swiotlb=noforce";

constexpr unsigned kSerialFileMode = 0600;

Json text(std::string_view value) { return Json(Json::Value(std::string(value))); }

// A regular file, or a block device too where `may_be_device`. Anything else could make us wait for
// it for ever.
Result<Fd> open_file(const std::string& path, int flags, bool may_be_device,
                     std::string_view otherwise) {
  if (path.contains('\0')) return fail(Code::kInvalid, "{}: its path has a zero byte", otherwise);
  Fd file(::open(path.c_str(), flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (!file) {
    auto error = fail_errno(errno, path);
    return fail(Code::kInvalid, "{}: {}", otherwise, error.error().message);
  }
  struct stat status {};
  const bool fits = fstat(file.get(), &status) == 0 &&
                    (S_ISREG(status.st_mode) || (may_be_device && S_ISBLK(status.st_mode)));
  if (!fits) return fail(Code::kInvalid, "{}: {} is no regular file", otherwise, path);
  return file;
}

Result<Fd> another(const Fd& file) {
  Fd copy(fcntl(file.get(), F_DUPFD_CLOEXEC, 0));
  if (!copy) return fail_errno(errno, "duplicating a descriptor");
  return copy;
}

}  // namespace

struct MicrovmApi::Route {
  std::string_view method;
  std::string_view path;  // "/drives/" also stands for "/drives/ID"
  When when = When::kAlways;
  Answer (MicrovmApi::*handle)(const HttpRequest&, const Json&) = nullptr;
};

const std::vector<MicrovmApi::Route>& MicrovmApi::routes() {
  static const std::vector<Route> kRoutes = {
      {"GET", "/", When::kAlways, &MicrovmApi::get_instance},
      {"GET", "/version", When::kAlways, &MicrovmApi::get_version},
      {"GET", "/machine-config", When::kAlways, &MicrovmApi::get_machine},
      {"PUT", "/machine-config", When::kBeforeBoot, &MicrovmApi::put_machine},
      {"PATCH", "/machine-config", When::kBeforeBoot, &MicrovmApi::patch_machine},
      {"GET", "/vm/config", When::kAlways, &MicrovmApi::get_configuration},
      {"PATCH", "/vm", When::kAfterBoot, &MicrovmApi::patch_vm},
      {"PUT", "/boot-source", When::kBeforeBoot, &MicrovmApi::put_boot_source},
      {"PUT", "/drives/", When::kAlways, &MicrovmApi::put_drive},
      {"PUT", "/network-interfaces/", When::kAlways, &MicrovmApi::put_interface},
      {"PATCH", "/network-interfaces/", When::kAfterBoot, &MicrovmApi::patch_interface},
      {"PUT", "/vsock", When::kBeforeBoot, &MicrovmApi::put_vsock},
      {"PUT", "/cpu-config", When::kBeforeBoot, &MicrovmApi::put_cpu_configuration},
      {"GET", "/balloon", When::kAlways, &MicrovmApi::get_balloon},
      {"PUT", "/balloon", When::kBeforeBoot, &MicrovmApi::put_balloon},
      {"PATCH", "/balloon", When::kAfterBoot, &MicrovmApi::patch_balloon},
      {"GET", "/balloon/statistics", When::kAfterBoot, &MicrovmApi::get_balloon_statistics},
      {"PATCH", "/balloon/statistics", When::kAfterBoot, &MicrovmApi::patch_balloon_statistics},
      {"PATCH", "/balloon/hinting/start", When::kAfterBoot, &MicrovmApi::start_hints},
      {"GET", "/balloon/hinting/status", When::kAfterBoot, &MicrovmApi::get_hints},
      {"PATCH", "/balloon/hinting/stop", When::kAfterBoot, &MicrovmApi::stop_hints},
      {"PUT", "/actions", When::kAlways, &MicrovmApi::put_action},
      {"PUT", "/snapshot/create", When::kAfterBoot, &MicrovmApi::put_snapshot_create},
      {"PUT", "/snapshot/load", When::kBeforeBoot, &MicrovmApi::put_snapshot_load},
      {"PATCH", "/drives/", When::kAfterBoot, &MicrovmApi::patch_drive},
      {"DELETE", "/drives/", When::kAfterBoot, &MicrovmApi::delete_device},
      {"PUT", "/pmem/", When::kAlways, &MicrovmApi::put_pmem},
      {"PATCH", "/pmem/", When::kAfterBoot, &MicrovmApi::patch_pmem},
      {"DELETE", "/pmem/", When::kAfterBoot, &MicrovmApi::delete_device},
      {"PUT", "/logger", When::kBeforeBoot, &MicrovmApi::put_logger},
      {"PUT", "/metrics", When::kBeforeBoot, &MicrovmApi::put_metrics},
      {"GET", "/mmds", When::kAlways, &MicrovmApi::get_mmds},
      {"PUT", "/mmds", When::kAlways, &MicrovmApi::put_mmds},
      {"PATCH", "/mmds", When::kAlways, &MicrovmApi::patch_mmds},
      {"PUT", "/mmds/config", When::kBeforeBoot, &MicrovmApi::put_mmds_config},
      {"PUT", "/entropy", When::kBeforeBoot, &MicrovmApi::put_entropy},
      {"PUT", "/serial", When::kBeforeBoot, &MicrovmApi::put_serial},
      {"GET", "/hotplug/memory", When::kAfterBoot, &MicrovmApi::get_hot_plug},
      {"PUT", "/hotplug/memory", When::kBeforeBoot, &MicrovmApi::put_hot_plug},
      {"PATCH", "/hotplug/memory", When::kAfterBoot, &MicrovmApi::patch_hot_plug},
      {"DELETE", "/network-interfaces/", When::kAfterBoot, &MicrovmApi::delete_device},
  };
  return kRoutes;
}

MicrovmApi::MicrovmApi(std::string id, Loop& loop, std::function<void(const VcpuEnd&)> on_end,
                       Options options)
    : id_(std::move(id)),
      loop_(loop),
      on_end_(std::move(on_end)),
      filters_(options.filters),
      kvm_(options.kvm),
      mmds_bytes_max_(options.mmds_bytes_max),
      logger_(id_),
      metrics_(id_) {}

MicrovmApi::~MicrovmApi() {
  if (metrics_timer_) loop_.forget(metrics_timer_->fd());
  if (machine_) write_metrics();
}

HttpResponse MicrovmApi::handle(const HttpRequest& request) {
  log_request(request);
  HttpResponse response = respond(request);
  count_request(request, response.status >= 400);
  if (response.deprecated) ++deprecated_requests_;
  log_outcome(response);
  return response;
}

HttpResponse MicrovmApi::respond(const HttpRequest& request) {
  const auto matches = [&](const Route& route) {
    if (route.method != request.method) return false;
    if (!route.path.ends_with('/') || route.path.size() == 1) return route.path == request.path;
    return request.path == route.path.substr(0, route.path.size() - 1) ||
           (request.path.starts_with(route.path) &&
            request.path.find('/', route.path.size()) == std::string::npos);
  };
  // The body's presence comes before the path's meaning.
  if (!request.body && (request.method == "PUT" || request.method == "PATCH"))
    return fault(400, fmt::format("Empty {} request.", request.method));
  if (request.body && request.method == "GET") return fault(400, "GET request cannot have a body.");
  if (request.body && request.method == "DELETE") return fault(400, "Empty Delete request.");
  const auto route = std::ranges::find_if(routes(), matches);
  if (route == routes().end())
    return fault(400, fmt::format("Invalid request method and/or path: {} {}.", request.method,
                                  request.path.substr(1)));
  if (route->path.ends_with('/') && route->path.size() > 1) {
    if (const auto id = check_id(id_of(request.path)); !id) return fault(400, id.error().message);
  }
  Json body;
  if (request.body) {
    auto parsed = body_of(Json::parse(*request.body));
    if (!parsed) return fault(400, parsed.error().message + ".");
    body = *std::move(parsed);
  }
  if (route->when == When::kBeforeBoot && machine_)
    return fault(400, "The requested operation is not supported after starting the microVM.");
  if (route->when == When::kAfterBoot && !machine_)
    return fault(400, "The requested operation is not supported before starting the microVM.");
  deprecated_ = false;
  auto answer = (this->*route->handle)(request, body);
  // What reached its values forbids a snapshot's load, even if it was refused.
  const bool reached = answer || answer.error().code != Code::kCorrupt;
  if (reached && configures_boot(*route)) configured_ = true;
  // Firecracker answers 413 where the metadata's limit alone is reached.
  const bool mmds_limit = !answer && request.path == "/mmds" && answer.error().code == Code::kLimit;
  HttpResponse response =
      answer ? *std::move(answer) : fault(mmds_limit ? 413 : 400, answer.error().message);
  response.deprecated = response.deprecated || deprecated_;
  return response;
}

bool MicrovmApi::configures_boot(const Route& route) {
  if (route.method != "PUT" && route.method != "PATCH") return false;
  return std::ranges::any_of(
      std::initializer_list<std::string_view>{
          "/machine-config", "/boot-source", "/drives/", "/pmem/", "/network-interfaces/",
          "/balloon", "/vsock", "/entropy", "/mmds/config", "/hotplug/memory"},
      [&](std::string_view path) { return route.path == path; });
}

MicrovmApi::Answer MicrovmApi::get_instance(const HttpRequest&, const Json&) {
  const std::string_view state = !machine_             ? "Not started"
                                 : machine_->running() ? "Running"
                                                       : "Paused";
  return shown(Json(Json::Object{{"id", text(id_)},
                                 {"state", text(state)},
                                 {"vmm_version", text(kFirecrackerVersion)},
                                 {"app_name", text("Firecracker")}}));
}

MicrovmApi::Answer MicrovmApi::get_version(const HttpRequest&, const Json&) {
  return shown(Json(Json::Object{{"firecracker_version", text(kFirecrackerVersion)}}));
}

MicrovmApi::Answer MicrovmApi::get_machine(const HttpRequest&, const Json&) {
  return shown(show(configuration_));
}

MicrovmApi::Answer MicrovmApi::get_configuration(const HttpRequest&, const Json&) {
  Json::Array drives;
  for (const OpenDrive& open : drives_) drives.push_back(show(open.drive));
  Json::Array interfaces;
  for (const OpenInterface& open : interfaces_) interfaces.push_back(show(open.interface));
  Json::Array pmems;
  for (const PmemConfiguration& pmem : pmems_) pmems.push_back(show(pmem));
  return shown(Json(Json::Object{{"balloon", show(balloon_)},
                                 {"drives", Json(std::move(drives))},
                                 {"boot-source", show(boot_source_)},
                                 {"cpu-config", Json()},
                                 {"logger", Json()},
                                 {"machine-config", show(configuration_)},
                                 {"metrics", Json()},
                                 {"mmds-config", show(mmds_)},
                                 {"network-interfaces", Json(std::move(interfaces))},
                                 {"vsock", show(vsock_)},
                                 {"entropy", show_entropy(entropy_)},
                                 {"pmem", Json(std::move(pmems))},
                                 {"memory-hotplug", show(hot_plug_)}}));
}

// A template that is not given stays as it was, a custom one too; any that is given, `None` too,
// takes its place.
Result<void> MicrovmApi::set_machine(MachineConfiguration machine,
                                     std::optional<StaticTemplate> cpu_template) {
  deprecated_ = cpu_template.has_value();
  HOB_CHECK(check(machine));
  if (balloon_ && balloon_->target_mib > machine.memory_mib)
    return fail(Code::kInvalid,
                "The memory size (MiB) is smaller than the previously set balloon device target "
                "size.");
  machine.cpu_template = cpu_template.value_or(configuration_.cpu_template);
  configuration_ = machine;
  if (cpu_template) cpu_ = {};
  return {};
}

MicrovmApi::Answer MicrovmApi::put_machine(const HttpRequest&, const Json& body) {
  HOB_TRY(const MachineRequest request, body_of(read_machine(body)));
  HOB_CHECK(prefixed(set_machine(request.machine, request.cpu_template), "Machine config error"));
  return done();
}

MicrovmApi::Answer MicrovmApi::patch_machine(const HttpRequest&, const Json& body) {
  HOB_TRY(const MachineUpdate update, body_of(read_machine_update(body)));
  if (update.empty()) return fail(Code::kInvalid, "Empty PATCH request.");
  MachineConfiguration machine = configuration_;
  machine.vcpu_count = update.vcpu_count.value_or(machine.vcpu_count);
  machine.memory_mib = update.memory_mib.value_or(machine.memory_mib);
  machine.smt = update.smt.value_or(machine.smt);
  machine.track_dirty_pages = update.track_dirty_pages.value_or(machine.track_dirty_pages);
  machine.huge_pages = update.huge_pages.value_or(machine.huge_pages);
  HOB_CHECK(prefixed(set_machine(machine, update.cpu_template), "Machine config error"));
  return done();
}

Result<void> MicrovmApi::set_boot_source(BootSource source) {
  HOB_TRY(Fd kernel,
          open_file(source.kernel_path, O_RDONLY, false, "The kernel file cannot be opened"));
  Fd initrd;
  if (source.initrd_path) {
    HOB_TRY(
        initrd,
        open_file(*source.initrd_path, O_RDONLY, false,
                  "The initrd file cannot be opened due to invalid path or invalid permissions"));
  }
  if (source.arguments && source.arguments->size() >= layout::kCommandLineBytes)
    return fail(Code::kInvalid, "The kernel command line is invalid: it is longer than {} bytes",
                layout::kCommandLineBytes - 1);
  kernel_ = std::move(kernel);
  initrd_ = std::move(initrd);
  boot_source_ = std::move(source);
  return {};
}

MicrovmApi::Answer MicrovmApi::put_boot_source(const HttpRequest&, const Json& body) {
  HOB_TRY(BootSource source, body_of(read_boot_source(body)));
  HOB_CHECK(prefixed(set_boot_source(std::move(source)), "Boot source error"));
  return done();
}

// There is room for one more, and an interrupt for the generation id behind it.
Result<void> MicrovmApi::check_device_count() const {
  const size_t devices = drives_.size() + interfaces_.size() + pmems_.size() + (balloon_ ? 1 : 0) +
                         (vsock_ ? 1 : 0) + (entropy_ ? 1 : 0) + (hot_plug_ ? 1 : 0);
  HOB_CHECK(mmio_place(devices + 1));
  return {};
}

Result<void> MicrovmApi::set_drive(Drive drive) {
  const auto same =
      std::ranges::find(drives_, drive.id, [](const OpenDrive& open) { return open.drive.id; });
  const auto root =
      std::ranges::find(drives_, true, [](const OpenDrive& open) { return open.drive.root; });
  if (drive.root && root != drives_.end() && root != same)
    return fail(Code::kInvalid, "A root block device already exists!");
  if (drive.root && std::ranges::find(pmems_, true, &PmemConfiguration::root) != pmems_.end())
    return fail(Code::kInvalid,
                "Attempt to add block as a root device while the root device defined as a pmem "
                "device");
  HOB_TRY(Fd file, open_file(drive.path, drive.read_only ? O_RDONLY : O_RDWR, true,
                             "Error manipulating the backing file"));
  OpenDrive open{.drive = std::move(drive), .file = std::move(file)};
  const bool is_root = open.drive.root;
  if (same != drives_.end()) {
    *same = std::move(open);
    if (is_root) std::rotate(drives_.begin(), same, same + 1);
  } else {
    HOB_CHECK(check_device_count());
    drives_.insert(is_root ? drives_.begin() : drives_.end(), std::move(open));
  }
  return {};
}

MicrovmApi::Answer MicrovmApi::put_drive(const HttpRequest& request, const Json& body) {
  HOB_TRY(Drive drive, body_of(read_drive(body)));
  if (drive.id != id_of(request.path))
    return fail(Code::kInvalid, "The id from the path does not match the id from the body!");
  if (machine_)
    return no_hot_plug(std::ranges::any_of(
        drives_, [&](const OpenDrive& open) { return open.drive.id == drive.id; }));
  HOB_CHECK(prefixed(set_drive(std::move(drive)), "Drive config error"));
  return done();
}

Result<void> MicrovmApi::set_vsock(VsockConfiguration vsock) {
  // The one before goes first: it may have the same path.
  vsock_.reset();
  vsock_listener_.reset();
  HOB_CHECK(check_device_count());
  auto listener =
      prefixed(VsockListener::bind(vsock.path), "Cannot create backend for vsock device");
  if (!listener) return fail(Code::kInvalid, "{}", listener.error().message);
  vsock_listener_.emplace(*std::move(listener));
  vsock_ = std::move(vsock);
  return {};
}

MicrovmApi::Answer MicrovmApi::put_vsock(const HttpRequest&, const Json& body) {
  HOB_TRY(VsockConfiguration vsock, body_of(read_vsock(body)));
  HOB_CHECK(prefixed(set_vsock(std::move(vsock)), "Vsock config error"));
  return done();
}

MicrovmApi::Answer MicrovmApi::patch_drive(const HttpRequest& request, const Json& body) {
  HOB_TRY(const DriveUpdate update, body_of(read_drive_update(body)));
  if (update.id != id_of(request.path))
    return fail(Code::kInvalid, "The id from the path does not match the id from the body!");
  const auto open =
      std::ranges::find(drives_, update.id, [](const OpenDrive& one) { return one.drive.id; });
  if (open == drives_.end())
    return fail(Code::kInvalid, "Drive config error: Device not found: {}", update.id);
  std::optional<Fd> file;
  if (update.path) {
    HOB_TRY(file, prefixed(open_file(*update.path, open->drive.read_only ? O_RDONLY : O_RDWR, true,
                                     "Error manipulating the backing file"),
                           "Drive config error: Unable to patch the block device"));
  }
  HOB_TRY(open->drive.limit,
          prefixed(machine_->change_drive(update.id, std::move(file), update.limit),
                   "Drive config error: Unable to patch the block device"));
  if (update.path) open->drive.path = *update.path;
  return done();
}

MicrovmApi::Answer MicrovmApi::put_serial(const HttpRequest&, const Json& body) {
  HOB_TRY(const SerialConfiguration serial, body_of(read_serial(body)));
  Fd output;
  if (serial.path) {
    if (serial.path->contains('\0'))
      return fail(Code::kInvalid, "Serial config error: its path has a zero byte");
    // Of a FIFO that nobody reads it can be waited for neither here nor later: both ends are ours.
    output = Fd(::open(serial.path->c_str(),
                       O_RDWR | O_APPEND | O_CREAT | O_NONBLOCK | O_CLOEXEC | O_NOCTTY,
                       kSerialFileMode));
    if (!output) return prefixed(Answer(fail_errno(errno, *serial.path)), "Serial config error");
  }
  serial_output_ = std::move(output);
  serial_limit_ = serial.limit;
  return done();
}

Result<void> MicrovmApi::set_entropy(const RateLimiterOptions& limit) {
  if (!entropy_) HOB_CHECK(check_device_count());
  entropy_ = limit;
  return {};
}

MicrovmApi::Answer MicrovmApi::put_entropy(const HttpRequest&, const Json& body) {
  HOB_TRY(const RateLimiterOptions limit, body_of(read_entropy(body)));
  HOB_CHECK(prefixed(set_entropy(limit), "Entropy config error"));
  return done();
}

// What is there was there at boot, and stays; only what hangs on PCI could be taken away.
MicrovmApi::Answer MicrovmApi::delete_device(const HttpRequest& request, const Json&) {
  const std::string_view id = id_of(request.path);
  const auto is_known = [&] {
    if (request.path.starts_with("/drives/"))
      return std::ranges::any_of(drives_, [&](const auto& one) { return one.drive.id == id; });
    if (request.path.starts_with("/pmem/"))
      return std::ranges::any_of(pmems_, [&](const auto& one) { return one.id == id; });
    return std::ranges::any_of(interfaces_,
                               [&](const auto& one) { return one.interface.id == id; });
  };
  return fail(Code::kInvalid, "{}", is_known() ? "PCI is not enabled" : "Device not found");
}

MicrovmApi::Answer MicrovmApi::put_action(const HttpRequest&, const Json& body) {
  size_t action = 0;
  std::string given;
  Fields fields(body, "struct ActionBody", {"action_type"});
  fields.required("action_type", given);
  fields.variant("action_type", {"FlushMetrics", "InstanceStart", "SendCtrlAltDel"}, action);
  HOB_CHECK(body_of(fields.finish()));
  if (action == 1) {
    if (machine_)
      return fail(Code::kInvalid,
                  "The requested operation is not supported after starting the microVM.");
    HOB_CHECK(prefixed(start(), "Start microvm error"));
    return done();
  }
  if (!machine_)
    return fail(Code::kInvalid,
                "The requested operation is not supported before starting the microVM.");
  if (action == 0) {
    write_metrics();
    return done();
  }
  if (!machine_->type_ctrl_alt_del())
    return fail(Code::kInvalid, "Internal VMM error: the guest does not read its keyboard.");
  return done();
}

MicrovmApi::Answer MicrovmApi::patch_vm(const HttpRequest&, const Json& body) {
  size_t state = 0;
  std::string given;
  Fields fields(body, "struct Vm", {"state"});
  fields.required("state", given);
  fields.variant("state", {"Paused", "Resumed"}, state);
  HOB_CHECK(body_of(fields.finish()));
  const Stopwatch watch;
  if (state == 0)
    machine_->pause();
  else
    machine_->resume();
  (state == 0 ? took_.pause : took_.resume) = watch.elapsed();
  return done();
}

Result<MachineOptions> MicrovmApi::machine_options() {
  MachineOptions options{.vcpus = configuration_.vcpu_count,
                         .smt = configuration_.smt,
                         .memory_mib = configuration_.memory_mib,
                         .pages = pages_of(configuration_.huge_pages),
                         .track_dirty = configuration_.track_dirty_pages,
                         .balloon = balloon_,
                         .filter_vcpus = filters_ == Filters::kSet,
                         .console_input = serial_output_ ? -1 : 0,
                         .console = serial_output_ ? serial_output_.get() : 1,
                         .console_limit = serial_limit_,
                         .kvm = kvm_};
  stacks_.clear();
  // Copies: a start that fails leaves everything to be tried again.
  for (const OpenDrive& open : drives_) {
    HOB_TRY(Fd file, another(open.file));
    options.drives.push_back({.id = open.drive.id,
                              .file = std::move(file),
                              .read_only = open.drive.read_only,
                              .flushes = open.drive.write_back,
                              .root = open.drive.root,
                              .partition = open.drive.partition.value_or(""),
                              .asynchronous = open.drive.asynchronous,
                              .limit = open.drive.limit});
  }
  for (const OpenInterface& open : interfaces_) {
    HOB_TRY(Tap tap, open.tap.duplicate());
    options.interfaces.push_back({.id = open.interface.id,
                                  .tap = std::move(tap),
                                  .options = {.mac = open.interface.mac,
                                              .mtu = open.interface.mtu,
                                              .receive = open.interface.receive,
                                              .send = open.interface.send,
                                              .responder = responder_of(open.interface)}});
  }
  for (const PmemConfiguration& pmem : pmems_) {
    HOB_TRY(Fd file, open_file(pmem.path, pmem.read_only ? O_RDONLY : O_RDWR, false,
                               "Error accessing backing file"));
    options.pmems.push_back({.id = pmem.id,
                             .file = std::move(file),
                             .read_only = pmem.read_only,
                             .root = pmem.root,
                             .limit = pmem.limit});
  }
  options.hot_plug = hot_plug_;
  if (entropy_) options.entropy = EntropyOptions{.limit = *entropy_};
  if (vsock_) {
    HOB_TRY(Fd listener, another(vsock_listener_->fd()));
    options.vsock = VsockSocket{
        .guest_cid = vsock_->guest_cid, .listener = std::move(listener), .path = vsock_->path};
  }
  return options;
}

Result<void> MicrovmApi::start() {
  if (!boot_source_)
    return fail(Code::kInvalid, "Cannot start microvm without kernel configuration.");
  HOB_TRY(MachineOptions options, machine_options());
  options.cpu = cpu_;
  if (configuration_.cpu_template != StaticTemplate::kNone) {
    HOB_TRY(options.cpu, context(static_template(configuration_.cpu_template, this_cpu()),
                                 "Failed to get CPU template"));
  }
  options.boot_arguments = boot_source_->arguments.value_or(std::string(kDefaultArguments));
  HOB_TRY(options.kernel, another(kernel_));
  if (initrd_) {
    HOB_TRY(options.initrd, another(initrd_));
  }
  HOB_TRY(machine_, Machine::build(std::move(options), loop_, on_end_));
  HOB_CHECK(narrow_filter());
  machine_->resume();
  logger_.log(LogLevel::kInfo, "main", "The microVM runs.");
  return write_metrics_regularly();
}

Result<void> MicrovmApi::narrow_filter() {
  return filters_ == Filters::kSet ? install_filter(ThreadKind::kVmm) : Result<void>();
}

}  // namespace hob::microvm
