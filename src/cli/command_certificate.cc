// hob certificate add|ls|rm: certificates from files, and all that are shown for domains.
#include <CLI/App.hpp>
#include <boost/json.hpp>
#include <cstdio>

#include "base/certificate.h"
#include "base/file.h"
#include "cli/certificates.h"
#include "cli/commands.h"
#include "cli/services.h"

namespace hob::cli {
namespace {

namespace json = boost::json;

struct CertificateOptions {
  std::string chain{};
  std::string key{};
  std::string name{};
};

std::string joined(const std::vector<std::string>& texts) {
  std::string all;
  for (const std::string& each : texts) all += (all.empty() ? "" : ", ") + printable(each);
  return all;
}

Async<Result<void>> add(const Context& context, CertificateOptions options) {
  CertifiedKey pair;
  HOB_CO_TRY(pair.certificate,
             hob::context(read_file(options.chain, kChainBytesMax), "reading the chain"));
  HOB_CO_TRY(pair.key,
             hob::context(read_file(options.key, kPrivateKeyBytesMax), "reading the key"));
  // Before it leaves this process: a file that is not what was meant should not.
  HOB_CO_CHECK(hob::context(check_chain(pair, SystemClock().now()), "{} with {}", options.chain,
                            options.key));
  HOB_CO_TRY(Api api, Api::open(context));
  json::object input = {{"Certificate", pair.certificate}, {"PrivateKey", pair.key}};
  if (!options.name.empty()) input["Name"] = options.name;
  HOB_CO_TRY(json::object answer, co_await api.call("hob", "Hob.PutCertificate", std::move(input)));
  if (context.json) {
    printf("%s\n", json::serialize(answer).c_str());
    co_return Result<void>{};
  }
  HOB_CO_TRY(const std::vector<CertificateLine> lines, co_await list_certificates(api));
  const std::string name = text_at(answer, "Name");
  for (const CertificateLine& line : lines) {
    if (line.name != name || line.renew_at) continue;
    printf("certificate %s for %s, until %s\n", printable(name).c_str(),
           joined(line.host_names).c_str(), iso8601(line.not_after).substr(0, 10).c_str());
  }
  printf(
      "it is shown for those of your domains that it covers (hob domain add); the next one is "
      "added in the same way\n");
  co_return Result<void>{};
}

Async<Result<void>> list(const Context& context) {
  HOB_CO_TRY(Api api, Api::open(context));
  if (context.json) {
    HOB_CO_TRY(json::object answer, co_await api.call("hob", "Hob.ListCertificates", {}));
    printf("%s\n", json::serialize(answer).c_str());
    co_return Result<void>{};
  }
  HOB_CO_TRY(const std::vector<CertificateLine> lines, co_await list_certificates(api));
  std::vector<std::vector<std::string>> rows = {
      {"CERTIFICATE", "FROM", "UNTIL", "NAMES", "SHOWN FOR", ""}};
  for (const CertificateLine& line : lines) {
    rows.push_back({printable(line.name), line.source, iso8601(line.not_after).substr(0, 10),
                    joined(line.host_names), joined(line.shown_for),
                    line.removed ? "removed once these have another" : printable(line.reason)});
  }
  printf("%s", table(rows).c_str());
  for (const std::string& warning : certificate_warnings(lines, SystemClock().now()))
    printf("warning: %s\n", warning.c_str());
  co_return Result<void>{};
}

Async<Result<void>> remove(const Context& context, std::string name) {
  HOB_CO_TRY(Api api, Api::open(context));
  HOB_CO_CHECK(co_await api.call("hob", "Hob.DeleteCertificate", {{"Name", name}}));
  if (context.json) {
    printf("%s\n", json::serialize(json::object{{"Name", name}}).c_str());
    co_return Result<void>{};
  }
  HOB_CO_TRY(const std::vector<CertificateLine> lines, co_await list_certificates(api));
  for (const CertificateLine& line : lines) {
    if (line.name != name || line.renew_at || line.shown_for.empty()) continue;
    printf("certificate %s goes once %s has another\n", printable(name).c_str(),
           joined(line.shown_for).c_str());
    co_return Result<void>{};
  }
  printf("certificate %s is gone\n", printable(name).c_str());
  co_return Result<void>{};
}

}  // namespace

void add_certificate(CLI::App& program, Context& context) {
  CLI::App* certificate = program.add_subcommand("certificate", "Certificates for your domains");
  certificate->require_subcommand(1);
  certificate->fallthrough();
  auto options = std::make_shared<CertificateOptions>();
  CLI::App* make = certificate->add_subcommand("add", "Bring one, or its successor, from files");
  make->add_option("chain", options->chain, "PEM: the server's own first, then those above it")
      ->required();
  make->add_option("key", options->key, "PEM: its private key, without a password")->required();
  make->add_option("--name", options->name, "Its name here (its first host name)");
  on_run(*make, context,
         [&context, options]() -> Async<Result<void>> { return add(context, *options); });

  CLI::App* all = certificate->add_subcommand("ls", "Which there are, from whom, until when");
  on_run(*all, context, [&context]() -> Async<Result<void>> { return list(context); });

  auto name = std::make_shared<std::string>();
  CLI::App* gone = certificate->add_subcommand("rm", "Remove one that was added");
  gone->add_option("name", *name, "Its name")->required();
  on_run(*gone, context,
         [&context, name]() -> Async<Result<void>> { return remove(context, *name); });
}

}  // namespace hob::cli
