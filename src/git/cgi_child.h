// `git http-backend` (RFC 3875) as a child: its input, its output, its end, and for a push the two
// pipes of the hook.
//
// Limits of memory, CPU and file size are set before it starts. It and all it started are killed
// with this object, and end by their closed pipes if our process is killed. The process must ignore
// SIGPIPE, as hobd does. Belongs to one loop; one coroutine for each direction.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>

#include "base/async.h"
#include "base/result.h"

namespace hob::git {

struct CgiStart {
  std::map<std::string, std::string> environment{};
  bool has_hook = false;  // the hook's pipes are wanted
};

class CgiChild {
 public:
  static Result<std::unique_ptr<CgiChild>> start(const Executor& executor, CgiStart start);
  ~CgiChild();
  CgiChild(const CgiChild&) = delete;
  CgiChild& operator=(const CgiChild&) = delete;

  // kUnavailable: it reads no more.
  Async<Result<void>> write(std::string bytes);
  void end_input();
  // Some of what it printed; empty at the end.
  Async<Result<std::string>> read();
  // The same of what its hook asks; empty when nobody can ask any more.
  Async<Result<std::string>> read_hook();
  Async<Result<void>> write_hook(std::string bytes);
  // Ends it and all it started, now.
  void kill();
  // Its exit status, or 128 + signal; after the end of its output.
  Async<int> wait();
  // The last of what it said on stderr, for logs.
  std::string errors() const;

 private:
  class Impl;
  explicit CgiChild(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// The variables that configure every git of ours: nothing of the machine's or a user's
// configuration is read, hooks are ours alone.
std::map<std::string, std::string> git_environment(const std::filesystem::path& hooks,
                                                   uint64_t push_bytes_max);

}  // namespace hob::git
