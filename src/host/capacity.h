// What a machine may be asked to run. Pure but for measure().
#pragma once

namespace hob::host {

// A task's size is a limit, not a promise: a web service mostly waits, and the sample image uses a
// hundredth of the default 1 vCPU and 2 GB. With 10, a machine of 2 cores and 2 GB takes about ten
// default services (memory is what runs out first), and each may still burst to its full size while
// the others idle. A machine whose tasks use what they ask for is told so by --cpu-overcommit and
// --memory-overcommit of 1.
inline constexpr double kCpuOvercommitDefault = 10;
inline constexpr double kMemoryOvercommitDefault = 10;
inline constexpr double kOvercommitMax = 1'000;

struct Machine {
  int cores = 1;
  long memory_mib = 0;
};

struct Capacity {  // what the sizes of tasks may add up to
  int cpu = 0;     // 1/1024 vCPU
  int memory_mib = 0;
};

// Overcommits outside 0.1..kOvercommitMax are brought into it.
Capacity capacity_of(const Machine& machine, double cpu_overcommit, double memory_overcommit);
// The cores this process may use and the machine's memory.
Machine measure();

}  // namespace hob::host
