// One virtual CPU on a thread of its own.
//
// The thread enters the guest until it is told to pause or stop, or the guest ends. Pausing is a
// request and an answer: `pause` returns when the CPU is out of the guest, so that its registers
// may be read. Called from the machine's thread.
#pragma once

#include <pthread.h>

#include <array>
#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

#include "base/result.h"
#include "microvm/devices/bus.h"
#include "microvm/machine/kvm.h"

namespace hob::microvm {

// Why a CPU stopped for good.
struct VcpuEnd {
  bool failed = false;   // KVM could not go on: the guest is lost
  std::string reason{};  // "the guest shut down (triple fault)"
};

struct VcpuBuses {
  const Bus& ports;
  const Bus& mmio;
};

class Vcpu {
 public:
  // `on_end` is called once, on the CPU's thread, when it ends by itself.
  Vcpu(uint32_t index, KvmVcpu kvm, VcpuBuses buses, std::function<void(const VcpuEnd&)> on_end);
  ~Vcpu();

  uint32_t index() const { return index_; }
  // Only before `start`, while paused, or after the end.
  KvmVcpu& kvm() { return kvm_; }

  // Paused at first. `prepare` runs on the new thread before anything else (its seccomp filter).
  Result<void> start(std::function<Result<void>()> prepare);
  void resume();
  void pause();
  // Ends the thread, wherever it is.
  void stop();
  struct Exits {
    uint64_t port_reads = 0, port_writes = 0, mmio_reads = 0, mmio_writes = 0;
  };
  Exits exits() const;  // any thread

  // Once in the process, before any CPU starts: the signal by which threads are called out of the
  // guest.
  static void install_kick();

 private:
  enum class Wanted { kPaused, kRunning, kStopped };
  void live();
  // False: it ends.
  bool run_once();
  void want(Wanted wanted);
  void handle_port();

  const uint32_t index_;
  KvmVcpu kvm_;
  VcpuBuses buses_;
  std::function<void(const VcpuEnd&)> on_end_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::atomic<Wanted> wanted_ = Wanted::kPaused;
  bool paused_ = false;  // it is: under mutex_
  bool ended_ = false;
  bool entered_ = false;  // the thread's own
  enum Exit { kPortRead, kPortWrite, kMmioRead, kMmioWrite, kExits };
  void count(Exit exit) {  // the thread's own: nobody else adds
    exits_[exit].store(exits_[exit].load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  }
  std::array<std::atomic<uint64_t>, kExits> exits_{};
  std::thread thread_;
};

}  // namespace hob::microvm
