// What every command of `hob` works with: which instance, how to print, how to speak to its API.
#pragma once

#include <CLI/App.hpp>
#include <boost/json/fwd.hpp>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>

#include "base/async.h"
#include "base/http.h"
#include "base/result.h"
#include "cli/instance.h"

namespace hob::cli {

inline constexpr Duration kCallWithin{30'000};
inline constexpr size_t kAnswerBytesMax = 32 * 1024 * 1024;

// Set by main from the options that all commands share; lives as long as the process.
struct Context {
  std::filesystem::path data = kDefaultData;
  bool json = false;
  int exit_code = 0;  // what main returns; a command sets it

  // The instance at `data`. kNotFound: says how to start one.
  Result<Instance> instance() const;
};

// A command's body: its error becomes a line on stderr and exit code 1.
using Body = std::function<Async<Result<void>>()>;
// Runs `body` on a loop of its own when the command is chosen.
void on_run(CLI::App& command, Context& context, Body body);
// The same at once; `name` stands in front of an error.
void run_body(Context& context, const std::string& name, Body body);

// An option that is given must say something: an empty value is refused, not left out.
void refuse_empty_values(CLI::App& command);

// A client of an instance's public API, as its first account or HOB_ACCESS_KEY_ID's. Copyable.
class Api {
 public:
  // kUnavailable: it does not run.
  static Result<Api> open(const Context& context);
  const Instance& instance() const { return instance_; }
  const Credentials& credentials() const { return credentials_; }
  // One call of a JSON protocol service: "apprunner", "AppRunner.ListServices". AWS's error becomes
  // an Error whose aws_code is its shape's name and whose message is its message.
  Async<Result<boost::json::object>> call(std::string service, std::string target,
                                          boost::json::object input) const;
  // A request to the registry (/v2/…) with an authorization got once from ECR.
  Async<Result<http::Response>> registry(http::Request request, std::string body) const;
  // For registry(): call first. kDenied.
  Async<Result<void>> log_in_to_registry();

 private:
  Instance instance_;
  Credentials credentials_;
  std::string registry_token_;
};

// "name" as a string, "" if it is not one.
std::string text_at(const boost::json::object& object, std::string_view name);

}  // namespace hob::cli
