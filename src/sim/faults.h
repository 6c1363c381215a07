// What goes wrong in a run: which kinds, and how often. Drawn from the seed, so that runs differ in
// kind; a kind can be left out, to find those that a failure needs.
#pragma once

#include <array>
#include <set>
#include <string>
#include <string_view>

#include "sim/seeded_random.h"

namespace hob::sim {

inline constexpr std::array<std::string_view, 16> kFaultKinds = {
    "control-crash", "agent-crash", "power-cut",  "edge-crash", "partition",  "cut",
    "slow-disk",     "disk-fails",  "task-crash", "pull-fails", "slow-start", "probe-fails",
    "freeze-fails",  "clock-jump",  "full-hosts", "bad-images"};

// A bug put in on purpose, at the border of what is simulated, to see that it is found.
enum class Mutation {
  kNone,
  kLoseCommit,     // a commit is answered, and not written
  kTwoHosts,       // two hosts pass for one
  kEdgeLies,       // an edge says it applies a table before it does
  kForgetWake,     // a host's answers to holds are lost, and the link stays
  kKeepContainer,  // a container that is removed runs on
  kKeepAddress,    // every task of a host has one address
  kEndTask,        // a machine ends a task that serves, and says nothing
  kOverfill,       // an edge gives every task one request more than it takes
  kStray,          // an edge forgets which task a client had
  kStuckTask,      // nobody ever hears that a container has ended
};

struct Faults {
  // Chances in 1,000 each second.
  int control_crash = 0, agent_crash = 0, power_cut = 0, edge_crash = 0, partition = 0, cut = 0,
      task_crash = 0, clock_jump = 0;
  int disk_ms_max = 2;
  int disk_fail_percent = 0;
  int pull_fail_percent = 0;
  int start_ms_max = 300;
  int probe_fail_percent = 0;
  int freeze_fail_percent = 0;
  bool full_hosts = false;
  int bad_images_percent = 0;

  // Nothing that takes a serving task or a process away.
  bool gentle() const {
    return control_crash + agent_crash + power_cut + edge_crash + partition + cut + task_crash +
               clock_jump + probe_fail_percent + disk_fail_percent ==
           0;
  }
};

Faults draw_faults(SeededRandom& random, const std::set<std::string>& without);

}  // namespace hob::sim
