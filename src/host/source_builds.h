// Builds of sources on this machine, as control orders them: hob-build does each as a child, the
// image goes to Hob's registry, and what it prints and how it ends to control.
//
// An order that is known already tells how many lines control has, and is answered with those
// after them. Nothing is kept over this process's end: hob-build ends with it, and control, which
// hears nothing, orders again. Belongs to one loop.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "base/async.h"
#include "base/result.h"
#include "link/messages.h"

namespace hob::host {

inline constexpr size_t kBuildsAtOnceMax = 2;     // each may take 4 GiB and 2 CPUs; others wait
inline constexpr size_t kBuildsKnownMax = 100;    // waiting and ended ones too; beyond: refused
inline constexpr size_t kBuildLinesMax = 20'000;  // of one build; the last of them says so
inline constexpr size_t kBuildLineBytesMax = 16 * 1024;
inline constexpr size_t kBuildLinesPerReport = 200;
inline constexpr Duration kBuildUnaskedMax = std::chrono::minutes(1);
inline constexpr Duration kBuildWithin = std::chrono::hours(2);

struct BuildTools {
  std::filesystem::path program{};  // hob-build; empty: not here, and every order fails
  std::filesystem::path runtimes{};
  std::filesystem::path state{};      // what builds keep for each other
  std::filesystem::path directory{};  // of what one build makes; emptied at the start
};

class SourceBuilds {
 public:
  // `report` is given what control shall hear; it may be lost.
  SourceBuilds(const Executor& executor, BuildTools tools,
               std::function<void(const link::BuildReport&)> report);
  ~SourceBuilds();
  void order(const link::BuildOrder& order);
  // Control is there anew: it hears of those builds that it orders again, and the others end after
  // kBuildUnaskedMax.
  void linked();
  void end(const std::string& build);
  // Ends all.
  Async<> stop();

 private:
  struct Build;
  void start_waiting();
  Async<> run(std::shared_ptr<Build> build);
  Async<Result<void>> make(std::shared_ptr<Build> build);
  Async<> listen(std::shared_ptr<Build> build, int from);
  void hear(Build& build, std::string_view line);
  void add_line(Build& build, std::string line);
  void tell(Build& build);
  Async<> clear();

  BuildTools tools_;
  std::function<void(const link::BuildReport&)> report_;
  std::map<std::string, std::shared_ptr<Build>> builds_;
  std::set<std::shared_ptr<Build>> ending_;  // nobody's any more
  AsyncScope scope_;
};

}  // namespace hob::host
