#include "sim/faults.h"

namespace hob::sim {

Faults draw_faults(SeededRandom& random, const std::set<std::string>& without) {
  Faults faults;
  // One run in five has healthy machines, so that what is promised without faults is seen, too.
  const bool calm = random.chance(20);
  // Drawn whether it counts or not: leaving one kind out does not change the others.
  const auto draw = [&](std::string_view kind, int percent, int max) {
    const bool on = random.chance(percent);
    const int rate = 1 + random.below(max);
    const bool harmless = kind == "bad-images" || kind == "slow-start" || kind == "full-hosts" ||
                          kind == "slow-disk" || kind == "pull-fails";
    return on && (!calm || harmless) && !without.contains(std::string(kind)) ? rate : 0;
  };
  faults.control_crash = draw("control-crash", 40, 30);
  faults.agent_crash = draw("agent-crash", 35, 20);
  faults.power_cut = draw("power-cut", 20, 5);
  faults.edge_crash = draw("edge-crash", 30, 20);
  faults.partition = draw("partition", 35, 20);
  faults.cut = draw("cut", 40, 40);
  faults.disk_ms_max = 2 + draw("slow-disk", 40, 2'000);
  faults.disk_fail_percent = draw("disk-fails", 20, 20);
  faults.task_crash = draw("task-crash", 35, 20);
  faults.pull_fail_percent = draw("pull-fails", 30, 60);
  faults.start_ms_max = 300 + draw("slow-start", 40, 10'000);
  faults.probe_fail_percent = draw("probe-fails", 25, 30);
  faults.freeze_fail_percent = draw("freeze-fails", 20, 50);
  faults.clock_jump = draw("clock-jump", 15, 20);
  faults.full_hosts = draw("full-hosts", 15, 1) > 0;
  faults.bad_images_percent = draw("bad-images", 50, 50);
  return faults;
}

}  // namespace hob::sim
