// hob trust: this machine's programs accept the certificates of this instance.
#include <unistd.h>

#include <CLI/App.hpp>
#include <boost/json.hpp>
#include <cerrno>
#include <cstdio>

#include "base/file.h"
#include "base/process.h"
#include "cli/commands.h"
#include "cli/local_certificate.h"

namespace hob::cli {
namespace {

// Debian's place for authorities of one's own (update-ca-certificates(8)).
constexpr const char* kSystemAuthorities = "/usr/local/share/ca-certificates";
constexpr Duration kUpdateWithin{120'000};
constexpr size_t kPemBytesMax = 64 * 1024;

Async<Result<void>> trust(const Context& context, bool remove) {
  HOB_CO_TRY(Instance instance, context.instance());
  if (geteuid() != 0) {
    co_return fail(Code::kDenied, "the system's authorities are root's to change: sudo hob trust");
  }
  const std::string installed = fmt::format("{}/hob-{}.crt", kSystemAuthorities, instance.id);
  if (remove) {
    // update-ca-certificates leaves the link to what has gone, unless it is told to make all anew,
    // and then there is a moment without any authority.
    for (const std::string& gone :
         {installed, fmt::format("/etc/ssl/certs/hob-{}.pem", instance.id)}) {
      if (unlink(gone.c_str()) != 0 && errno != ENOENT)
        co_return fail_errno(errno, "removing " + gone);
    }
  } else {
    HOB_CO_TRY(std::string authority,
               hob::context(read_file(authority_path(instance), kPemBytesMax),
                            "reading the authority, which hob up makes"));
    HOB_CO_CHECK(make_directories(kSystemAuthorities, 0755));
    HOB_CO_CHECK(write_file_durably(installed, authority, 0644));
  }
  Command update{.argv = {"update-ca-certificates"}};
  HOB_CO_CHECK(co_await run_ok(std::move(update), kUpdateWithin));
  if (context.json) {
    const boost::json::object object = {{"File", installed}, {"Trusted", !remove}};
    printf("%s\n", boost::json::serialize(object).c_str());
  } else if (remove) {
    printf("this machine does not trust %s any more\n", authority_path(instance).c_str());
  } else {
    printf("this machine trusts %s for names in %s (as %s)\n", authority_path(instance).c_str(),
           kLocalDomain, installed.c_str());
    printf("browsers with a store of their own (Firefox) take the same file\n");
  }
  co_return Result<void>{};
}

}  // namespace

void add_trust(CLI::App& program, Context& context) {
  auto remove = std::make_shared<bool>(false);
  CLI::App* command =
      program.add_subcommand("trust", "Make this machine accept Hob's certificates (https)");
  command->add_flag("--remove", *remove, "Take it back");
  on_run(*command, context, [&context, remove] { return trust(context, *remove); });
}

}  // namespace hob::cli
