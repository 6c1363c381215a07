#include "microvm/jailer/options.h"

#include <algorithm>
#include <charconv>

namespace hob::microvm {
namespace {

constexpr size_t kIdBytesMax = 64;
constexpr uint32_t kNobodyNamed = UINT32_MAX;

template <class Number>
Result<Number> read_number(std::string_view name, std::string_view text) {
  Number number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size())
    return fail(Code::kInvalid, "'{}' is no number for {}", text, name);
  return number;
}

Result<void> check_jail_id(std::string_view id) {
  const bool plain = std::ranges::all_of(id, [](char c) {
    return c == '-' || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
  });
  if (id.empty() || id.size() > kIdBytesMax || !plain)
    return fail(Code::kInvalid, "Invalid instance ID: 1 to {} letters, digits and '-'.",
                kIdBytesMax);
  return {};
}

Result<CgroupValue> read_cgroup(std::string_view text) {
  const size_t equals = text.find('=');
  const size_t dot = text.find('.');
  if (equals == std::string_view::npos || dot == std::string_view::npos || dot == 0 ||
      dot > equals || equals + 1 == text.size())
    return fail(Code::kInvalid, "'{}' is no CONTROLLER.FILE=VALUE", text);
  const std::string_view file = text.substr(0, equals);
  if (file.contains('/') || file.contains(".."))
    return fail(Code::kInvalid, "'{}' is no file of a cgroup", file);
  return CgroupValue{.controller = std::string(text.substr(0, dot)),
                     .file = std::string(file),
                     .value = std::string(text.substr(equals + 1))};
}

Result<void> read_limit(std::string_view text, JailerOptions& options) {
  const size_t equals = text.find('=');
  const std::string_view name = text.substr(0, equals);
  const std::string_view value =
      equals == std::string_view::npos ? std::string_view() : text.substr(equals + 1);
  HOB_TRY(const auto number, read_number<uint64_t>("--resource-limit", value));
  if (name == "fsize")
    options.file_bytes_max = number;
  else if (name == "no-file")
    options.files_max = number;
  else
    return fail(Code::kInvalid, "'{}' is no resource: fsize or no-file", name);
  return {};
}

Result<void> read_option(std::string_view name, std::string_view value, JailerOptions& options) {
  if (name == "--id") options.id = value;
  if (name == "--exec-file") options.file = value;
  if (name == "--chroot-base-dir") options.base = value;
  if (name == "--parent-cgroup") options.parent_cgroup = value;
  if (name == "--netns") options.network_namespace = value;
  if (name == "--uid") {
    HOB_TRY(options.uid, read_number<uint32_t>(name, value));
  }
  if (name == "--gid") {
    HOB_TRY(options.gid, read_number<uint32_t>(name, value));
  }
  if (name == "--cgroup-version") {
    HOB_TRY(options.cgroup_version, read_number<int>(name, value));
    if (options.cgroup_version != 1 && options.cgroup_version != 2)
      return fail(Code::kInvalid, "'{}' is no cgroup version: 1 or 2", value);
  }
  if (name == "--cgroup") {
    HOB_TRY(CgroupValue cgroup, read_cgroup(value));
    options.cgroups.push_back(std::move(cgroup));
  }
  if (name == "--resource-limit") HOB_CHECK(read_limit(value, options));
  return {};
}

Result<void> check(JailerOptions& options, const std::vector<std::string_view>& seen) {
  for (const std::string_view needed : {"--id", "--exec-file", "--uid", "--gid"})
    if (std::ranges::find(seen, needed) == seen.end())
      return fail(Code::kInvalid, "The argument '{}' is required, but was not supplied.", needed);
  HOB_CHECK(check_jail_id(options.id));
  const std::string name = options.file_name();
  // To the kernel these numbers mean "leave it as it is": nothing would be dropped.
  if (options.uid == kNobodyNamed || options.gid == kNobodyNamed)
    return fail(Code::kInvalid, "{} is no user's or group's number", kNobodyNamed);
  if (options.base.empty()) return fail(Code::kInvalid, "--chroot-base-dir is empty");
  if (name.empty() || name == "." || name == "..")
    return fail(Code::kInvalid, "'{}' is no file", options.file);
  if (options.parent_cgroup.empty()) options.parent_cgroup = name;
  if (options.parent_cgroup.starts_with('/') || options.parent_cgroup.contains(".."))
    return fail(Code::kInvalid, "The parent cgroup must be a relative path without '..'.");
  return {};
}

}  // namespace

std::string JailerOptions::file_name() const { return file.substr(file.rfind('/') + 1); }

Result<JailerOptions> read_jailer_options(const std::vector<std::string_view>& arguments) {
  JailerOptions options;
  std::vector<std::string_view> seen;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string_view name = arguments[i];
    if (name == "--") {
      options.rest.assign(arguments.begin() + static_cast<ptrdiff_t>(i) + 1, arguments.end());
      break;
    }
    const bool many = name == "--cgroup" || name == "--resource-limit";
    if (!many && std::ranges::find(seen, name) != seen.end())
      return fail(Code::kInvalid, "The argument '{}' was provided more than once.", name);
    seen.push_back(name);
    if (name == "--daemonize" || name == "--new-pid-ns") {
      (name == "--daemonize" ? options.daemonize : options.new_pid_namespace) = true;
      continue;
    }
    constexpr std::string_view kNames[] = {"--id",
                                           "--exec-file",
                                           "--uid",
                                           "--gid",
                                           "--chroot-base-dir",
                                           "--cgroup-version",
                                           "--cgroup",
                                           "--parent-cgroup",
                                           "--netns",
                                           "--resource-limit"};
    if (std::ranges::find(kNames, name) == std::end(kNames))
      return fail(Code::kInvalid,
                  "Found argument '{}' which wasn't expected, or isn't valid in this context.",
                  name);
    if (i + 1 == arguments.size())
      return fail(Code::kInvalid, "The argument '{}' requires a value, but none was supplied.",
                  name);
    HOB_CHECK(read_option(name, arguments[++i], options));
  }
  HOB_CHECK(check(options, seen));
  return options;
}

}  // namespace hob::microvm
