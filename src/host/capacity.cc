#include "host/capacity.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <limits>

namespace hob::host {

namespace {
constexpr double kOvercommitMin = 0.1;
constexpr int kCpuUnits = 1024;

int scaled(double amount, double factor) {
  const double wanted = amount * std::clamp(factor, kOvercommitMin, kOvercommitMax);
  return static_cast<int>(
      std::clamp(wanted, 0.0, static_cast<double>(std::numeric_limits<int>::max())));
}
}  // namespace

Capacity capacity_of(const Machine& machine, double cpu_overcommit, double memory_overcommit) {
  return {.cpu = scaled(static_cast<double>(machine.cores) * kCpuUnits, cpu_overcommit),
          .memory_mib = scaled(static_cast<double>(machine.memory_mib), memory_overcommit)};
}

Machine measure() {
  Machine machine;
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  if (sched_getaffinity(0, sizeof cpus, &cpus) == 0) machine.cores = std::max(CPU_COUNT(&cpus), 1);
  machine.memory_mib = sysconf(_SC_PHYS_PAGES) / (1024 * 1024 / sysconf(_SC_PAGESIZE));
  return machine;
}

}  // namespace hob::host
