// hob kernel install: the kernel of microVMs, from Debian's package.
#include <fcntl.h>
#include <fmt/core.h>
#include <unistd.h>

#include <CLI/App.hpp>
#include <cerrno>
#include <cstdio>
#include <filesystem>

#include "base/file.h"
#include "base/process.h"
#include "cli/commands.h"
#include "cli/microvms.h"
#include "cli/programs.h"
#include "guest/ram_disk.h"

namespace hob::cli {
namespace {

namespace fs = std::filesystem;

constexpr const char* kPackage = "linux-image-cloud-amd64";
constexpr Duration kDownloadTimeout = std::chrono::minutes(10);
constexpr Duration kCommandTimeout = std::chrono::minutes(2);
constexpr size_t kKernelBytesMax = 64 * 1024 * 1024;

// "linux-image-6.1.0-56-cloud-amd64": what the package that follows Debian's kernels stands for.
Async<Result<std::string>> current_package() {
  HOB_CO_TRY(const std::string depends,
             co_await run_ok({.argv = {"apt-cache", "depends", kPackage}}, kCommandTimeout));
  constexpr std::string_view kDepends = "Depends: ";
  const size_t at = depends.find(kDepends);
  if (at == std::string::npos)
    co_return fail(Code::kNotFound, "apt knows no package {}; apt-get update may help", kPackage);
  const size_t start = at + kDepends.size();
  co_return depends.substr(start, depends.find('\n', start) - start);
}

// The file in `folder` that apt-get downloaded.
Result<fs::path> only_package(const fs::path& folder) {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    if (entry.path().extension() == ".deb") return entry.path();
  }
  return fail(Code::kNotFound, "no package was downloaded to {}", folder.string());
}

Result<fs::path> entry_that_begins(const fs::path& folder, std::string_view prefix) {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    if (entry.path().filename().string().starts_with(prefix)) return entry.path();
  }
  return fail(Code::kNotFound, "the package has no {}/{}*", folder.filename().string(), prefix);
}

// From the unpacked package to what microVMs start from.
Result<std::string> make_kernel(const fs::path& unpacked, const fs::path& into) {
  HOB_TRY(const fs::path image, entry_that_begins(unpacked / "boot", "vmlinuz-"));
  HOB_TRY(const fs::path modules, entry_that_begins(unpacked / "lib/modules", ""));
  HOB_TRY(const fs::path guest, find_own_program("hob-guest"));
  HOB_TRY(const std::string ram_disk, guest::make_ram_disk(guest, modules));
  HOB_TRY(const std::string kernel, read_file(image, kKernelBytesMax));
  HOB_CHECK(write_file_durably(into / "initrd", ram_disk, 0644));
  HOB_CHECK(write_file_durably(into / "vmlinuz", kernel, 0644));
  return modules.filename().string();
}

// Both files at once: a kernel with another's modules starts nothing, and a task may start at any
// moment. What was there before is at `made` then.
Result<void> put_in_place(const fs::path& made, const fs::path& place) {
  std::error_code error;
  const bool replaces = fs::exists(place, error);
  if (::renameat2(AT_FDCWD, made.c_str(), AT_FDCWD, place.c_str(),
                  replaces ? RENAME_EXCHANGE : RENAME_NOREPLACE) != 0)
    return fail_errno(errno, "renaming " + made.string() + " to " + place.string());
  return sync_directory(place.parent_path());
}

Async<Result<void>> install(const Context& context, std::string package_file) {
  const fs::path into = fs::path(context.data) / "kernel";
  const fs::path work = fs::path(context.data) / "kernel.new";
  HOB_CO_CHECK(remove_tree(work));
  HOB_CO_CHECK(make_directories(work, 0755));
  if (package_file.empty()) {
    HOB_CO_TRY(const std::string name, co_await current_package());
    printf("downloading %s\n", name.c_str());
    Command download{.argv = {"apt-get", "download", "-qq", name}};
    download.directory = work;
    HOB_CO_CHECK(co_await run_ok(std::move(download), kDownloadTimeout));
    HOB_CO_TRY(const fs::path downloaded, only_package(work));
    package_file = downloaded;
  }
  HOB_CO_CHECK(
      co_await run_ok({.argv = {"dpkg-deb", "-x", package_file, work / "files"}}, kCommandTimeout));
  HOB_CO_CHECK(make_directories(work / "kernel", 0755));
  HOB_CO_TRY(const std::string version, make_kernel(work / "files", work / "kernel"));
  HOB_CO_CHECK(put_in_place(work / "kernel", into));
  HOB_CO_CHECK(remove_tree(work));
  printf("microVMs start Linux %s, from %s\n", version.c_str(), into.c_str());
  if (const Result<void> tools = check_image_tools(); !tools)
    printf("tasks run in containers all the same: %s\n", tools.error().message.c_str());
  co_return Result<void>{};
}

}  // namespace

void add_kernel(CLI::App& program, Context& context) {
  CLI::App* kernel = program.add_subcommand("kernel", "The kernel that microVMs start");
  kernel->require_subcommand(1);
  CLI::App* command = kernel->add_subcommand(
      "install", "Fetch Debian's cloud kernel with apt-get; nothing is installed on this machine");
  auto package = std::make_shared<std::string>();
  command->add_option("--package", *package, "A linux-image-*-cloud-amd64 package in a file");
  on_run(*command, context, [&context, package] { return install(context, *package); });
}

}  // namespace hob::cli
