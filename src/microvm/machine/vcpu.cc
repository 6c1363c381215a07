#include "microvm/machine/vcpu.h"

#include <fmt/core.h>
#include <signal.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/assert.h"

namespace hob::microvm {
namespace {

int kick_signal() { return SIGRTMIN; }

}  // namespace

void Vcpu::install_kick() {
  struct sigaction action {};
  action.sa_handler = [](int) {};  // KVM_RUN ends with EINTR; nothing else is to be done
  HOB_ASSERT(sigaction(kick_signal(), &action, nullptr) == 0);
}

Vcpu::Vcpu(uint32_t index, KvmVcpu kvm, VcpuBuses buses, std::function<void(const VcpuEnd&)> on_end)
    : index_(index), kvm_(std::move(kvm)), buses_(buses), on_end_(std::move(on_end)) {}

Vcpu::~Vcpu() { stop(); }

Result<void> Vcpu::start(std::function<Result<void>()> prepare) {
  Result<void> prepared;
  bool ready = false;
  thread_ = std::thread([this, &prepared, &ready, prepare = std::move(prepare)] {
    pthread_setname_np(pthread_self(), fmt::format("fc_vcpu {}", index_).c_str());
    Result<void> outcome = prepare();
    const bool ok = outcome.has_value();
    {
      const std::lock_guard lock(mutex_);
      prepared = std::move(outcome);
      ready = true;
      changed_.notify_all();
    }
    if (ok) live();
  });
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return ready; });
  return prepared;
}

void Vcpu::live() {
  while (true) {
    {
      std::unique_lock lock(mutex_);
      if (wanted_ != Wanted::kRunning) {
        // An exit that we have answered is completed by the next entry alone, and this one goes no
        // further.
        if (entered_) {
          kvm_.run().immediate_exit = 1;
          kvm_.enter();
        }
        paused_ = true;
        changed_.notify_all();
        changed_.wait(lock, [&] { return wanted_ != Wanted::kPaused; });
        paused_ = false;
      }
      if (wanted_ == Wanted::kStopped) return;
      kvm_.run().immediate_exit = 0;
      // Between the look above and the entry a kick sets immediate_exit again, under this lock.
    }
    while (wanted_.load(std::memory_order_acquire) == Wanted::kRunning) {
      if (run_once()) continue;
      const std::lock_guard lock(mutex_);
      ended_ = true;
      changed_.notify_all();
      return;
    }
  }
}

bool Vcpu::run_once() {
  entered_ = true;
  const int error = kvm_.enter();
  if (error == EINTR || error == EAGAIN) return true;
  if (error != 0) {
    on_end_({.failed = true,
             .reason = fmt::format("KVM_RUN on vCPU {}: {}", index_, std::strerror(error))});
    return false;
  }
  kvm_run& run = kvm_.run();
  switch (run.exit_reason) {
    case KVM_EXIT_IO:
      handle_port();
      return true;
    case KVM_EXIT_MMIO: {
      const size_t length = std::min<size_t>(run.mmio.len, sizeof run.mmio.data);
      const auto data = std::as_writable_bytes(std::span(run.mmio.data)).first(length);
      count(run.mmio.is_write != 0 ? kMmioWrite : kMmioRead);
      if (run.mmio.is_write != 0)
        buses_.mmio.write(run.mmio.phys_addr, data);
      else
        buses_.mmio.read(run.mmio.phys_addr, data);
      return true;
    }
    case KVM_EXIT_INTR:
    case KVM_EXIT_IRQ_WINDOW_OPEN:
      return true;
    case KVM_EXIT_HLT:
      on_end_({.reason = "the guest halted"});
      return false;
    case KVM_EXIT_SHUTDOWN:
      on_end_({.reason = "the guest shut down (triple fault)"});
      return false;
    case KVM_EXIT_SYSTEM_EVENT:
      on_end_(
          {.reason = fmt::format("the guest asked for system event {}", run.system_event.type)});
      return false;
    case KVM_EXIT_FAIL_ENTRY:
      on_end_({.failed = true,
               .reason = fmt::format("the hardware refused to enter the guest on vCPU {}: {:#x}",
                                     index_, run.fail_entry.hardware_entry_failure_reason)});
      return false;
    case KVM_EXIT_INTERNAL_ERROR:
      on_end_({.failed = true,
               .reason = fmt::format("KVM failed on vCPU {}: internal error {}", index_,
                                     run.internal.suberror)});
      return false;
    default:
      on_end_({.failed = true,
               .reason = fmt::format("vCPU {} stopped for reason {}, which is not known", index_,
                                     run.exit_reason)});
      return false;
  }
}

void Vcpu::handle_port() {
  kvm_run& run = kvm_.run();
  count(run.io.direction == KVM_EXIT_IO_OUT ? kPortWrite : kPortRead);
  // The kernel puts the bytes behind the struct; a string instruction has `count` of them.
  auto* at = reinterpret_cast<std::byte*>(&run) + run.io.data_offset;
  for (uint32_t i = 0; i < run.io.count; ++i, at += run.io.size) {
    const std::span data(at, run.io.size);
    if (run.io.direction == KVM_EXIT_IO_OUT)
      buses_.ports.write(run.io.port, data);
    else
      buses_.ports.read(run.io.port, data);
  }
}

Vcpu::Exits Vcpu::exits() const {
  const auto of = [&](Exit exit) { return exits_[exit].load(std::memory_order_relaxed); };
  return {.port_reads = of(kPortRead),
          .port_writes = of(kPortWrite),
          .mmio_reads = of(kMmioRead),
          .mmio_writes = of(kMmioWrite)};
}

void Vcpu::want(Wanted wanted) {
  const std::lock_guard lock(mutex_);
  wanted_.store(wanted, std::memory_order_release);
  if (wanted != Wanted::kRunning) {
    kvm_.run().immediate_exit = 1;
    if (thread_.joinable() && !ended_) pthread_kill(thread_.native_handle(), kick_signal());
  }
  changed_.notify_all();
}

void Vcpu::resume() { want(Wanted::kRunning); }

void Vcpu::pause() {
  want(Wanted::kPaused);
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return paused_ || ended_; });
}

void Vcpu::stop() {
  if (!thread_.joinable()) return;
  want(Wanted::kStopped);
  thread_.join();
}

}  // namespace hob::microvm
