// apprunner.yaml, App Runner's configuration file, exactly as its reference has it
// (docs.aws.amazon.com/apprunner/latest/dg/config-file-ref.html). Pure; any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace hob::builder {

inline constexpr const char* kAppFileName = "apprunner.yaml";
inline constexpr size_t kAppVariablesMax = 50;         // of `run.env` and `run.secrets` together
inline constexpr size_t kAppCommandsMax = 100;         // of one list
inline constexpr size_t kAppCommandBytesMax = 16'384;  // of one command or value
inline constexpr uint16_t kAppPortDefault = 8080;

struct AppVariable {
  std::string name{};
  std::string value{};
  bool operator==(const AppVariable&) const = default;
};

// What `value_from` names: a Secrets Manager ARN, an SSM parameter's ARN, or a parameter's name.
struct AppSecret {
  std::string name{};
  std::string value_from{};
  bool operator==(const AppSecret&) const = default;
};

struct AppFile {
  std::string runtime{};  // as written: "nodejs22"
  std::vector<std::string> pre_build{};
  std::vector<std::string> build{};  // never empty
  std::vector<std::string> post_build{};
  std::vector<AppVariable> build_environment{};  // of the three above and of pre_run
  std::string runtime_version{};                 // "3.11", "22.17.0"; empty: the newest
  std::vector<std::string> pre_run{};            // in the image that will run, as root
  std::string command{};
  uint16_t port = kAppPortDefault;
  std::string port_variable{};  // carries the port beside PORT; empty: none
  std::vector<AppVariable> environment{};
  std::vector<AppSecret> secrets{};
};

// Unknown keys are refused, with the nearest known one. kInvalid: "line 3, column 5: what is wrong
// and what was expected". kLimit: over a limit above.
Result<AppFile> parse_app_file(std::string_view text);

}  // namespace hob::builder
