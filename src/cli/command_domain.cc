// hob domain add|ls|rm: host names of people's own, over App Runner's operations.
#include <CLI/App.hpp>
#include <algorithm>
#include <boost/json.hpp>
#include <cstdio>

#include "cli/commands.h"
#include "cli/services.h"

namespace hob::cli {
namespace {

namespace json = boost::json;

constexpr Duration kLook{500};
constexpr Duration kAwayMax{30'000};  // control may be away for a moment: asking goes on
constexpr int kDomainPagesMax = 10;

struct DomainOptions {
  std::string service{};
  std::string domain{};
  bool no_www = false;
  bool no_wait = false;
};

// The service's domains as DescribeCustomDomains answers them, each with what the hob service knows
// beyond that under "Reason" and "NeedsProof".
Async<Result<json::array>> domains_of(Api api, std::string arn) {
  json::array all;
  json::object input = {{"ServiceArn", arn}};
  for (int page = 0; page < kDomainPagesMax; ++page) {
    HOB_CO_TRY(json::object answer,
               co_await api.call("apprunner", "AppRunner.DescribeCustomDomains", input));
    if (json::value* list = answer.if_contains("CustomDomains");
        list != nullptr && list->is_array())
      for (json::value& each : list->as_array()) all.push_back(std::move(each));
    const std::string token = text_at(answer, "NextToken");
    if (token.empty()) break;
    input["NextToken"] = token;
  }
  HOB_CO_TRY(json::object more, co_await api.call("hob", "Hob.ListDomains", {{"ServiceArn", arn}}));
  const json::value* list = more.if_contains("Domains");
  if (list == nullptr || !list->is_array()) co_return all;
  for (json::value& each : all) {
    if (!each.is_object()) continue;
    for (const json::value& known : list->as_array()) {
      if (!known.is_object() ||
          text_at(known.as_object(), "Name") != text_at(each.as_object(), "DomainName")) {
        continue;
      }
      each.as_object()["Reason"] = text_at(known.as_object(), "Reason");
      if (const json::value* needs = known.as_object().if_contains("NeedsProof"))
        each.as_object()["NeedsProof"] = *needs;
    }
  }
  co_return all;
}

// Empty: the service has no such domain.
Async<Result<json::object>> find_domain(Api api, std::string arn, std::string name) {
  HOB_CO_TRY(json::array all, co_await domains_of(api, arn));
  for (json::value& each : all) {
    if (each.is_object() && text_at(each.as_object(), "DomainName") == name)
      co_return std::move(each.as_object());
  }
  co_return json::object();
}

// What its owner has to set where.
void print_records(const json::object& domain, const Instance& instance) {
  const std::string name = text_at(domain, "DomainName");
  const json::value* www = domain.if_contains("EnableWWWSubdomain");
  const bool both = www != nullptr && www->is_bool() && www->as_bool();
  printf("1. Let %s%s lead to this machine: an A or AAAA record with its address\n", name.c_str(),
         both ? (" and www." + name).c_str() : "");
  if (!instance.is_public)
    printf("   (now services answer on 127.0.0.1:%d and %d alone; hob up --public changes that)\n",
           instance.http_port, instance.https_port);
  const json::value* needs = domain.if_contains("NeedsProof");
  if (needs != nullptr && needs->is_bool() && !needs->as_bool()) {
    printf("2. Nothing else: names in .test and .localhost need no proof\n");
    return;
  }
  const json::value* records = domain.if_contains("CertificateValidationRecords");
  if (records == nullptr || !records->is_array() || records->as_array().empty()) return;
  printf("2. Show that it is yours by a record in its DNS; one of these is enough:\n");
  std::vector<std::vector<std::string>> rows = {{"   NAME", "TYPE", "VALUE"}};
  for (const json::value& each : records->as_array()) {
    if (!each.is_object()) continue;
    rows.push_back({"   " + printable(text_at(each.as_object(), "Name")),
                    printable(text_at(each.as_object(), "Type")),
                    printable(text_at(each.as_object(), "Value"))});
  }
  printf("%s", table(rows).c_str());
  if (!instance.acme_directory.empty() && !name.starts_with("*."))
    printf("   Or none of them: once 1 is done, %s asks here itself\n",
           instance.acme_directory.c_str());
}

// Until `done` says so, with what the domain is now; empty: it is gone. Control may be away for a
// moment.
Async<Result<json::object>> await_domain(Api api, std::string arn, std::string name,
                                         Progress& progress,
                                         std::function<bool(const json::object&)> done) {
  Duration away{0};
  std::string reason;
  for (;;) {
    Result<json::object> domain = co_await find_domain(api, arn, name);
    if (!domain) {
      away += kLook;
      if (domain.error().code != Code::kUnavailable || away > kAwayMax)
        co_return fail(std::move(domain).error());
      progress.now(fmt::format("{}: Hob does not answer, waiting", name));
    } else {
      away = Duration(0);
      if (done(*domain)) co_return domain;
      const std::string said = text_at(*domain, "Reason");
      if (!said.empty() && said != reason) progress.line("  " + printable(said));
      reason = said;
      progress.now(fmt::format("{}: {}", name, text_at(*domain, "Status")));
    }
    co_await sleep_for(kLook);
  }
}

Async<Result<void>> add(const Context& context, DomainOptions options) {
  HOB_CO_TRY(Api api, Api::open(context));
  HOB_CO_TRY(ServiceLine service, co_await find_service(api, options.service));
  json::object input = {{"ServiceArn", service.arn},
                        {"DomainName", options.domain},
                        {"EnableWWWSubdomain", !options.no_www}};
  HOB_CO_TRY(json::object made,
             co_await api.call("apprunner", "AppRunner.AssociateCustomDomain", std::move(input)));
  const json::value* about = made.if_contains("CustomDomain");
  if (about == nullptr || !about->is_object())
    co_return fail(Code::kCorrupt, "AssociateCustomDomain answers nothing");
  const std::string name = text_at(about->as_object(), "DomainName");
  json::object domain;
  {
    Progress quiet(true);
    // The records are named a moment later.
    HOB_CO_TRY(domain,
               co_await await_domain(api, service.arn, name, quiet, [](const json::object& now) {
                 return text_at(now, "Status") != "creating";
               }));
  }
  if (!context.json) {
    print_records(domain, api.instance());
    fflush(stdout);
  }
  if (!options.no_wait) {
    Progress progress(context.json);
    const auto ended = [](const json::object& now) {
      const std::string status = text_at(now, "Status");
      return status.empty() || status == "active" || status == "create_failed";
    };
    Result<json::object> seen = co_await await_domain(api, service.arn, name, progress, ended);
    if (!seen) co_return fail(std::move(seen).error());
    domain = std::move(*seen);
    if (domain.empty()) co_return fail(Code::kNotFound, "{} was removed meanwhile", name);
    if (text_at(domain, "Status") != "active")
      co_return fail(Code::kUnavailable,
                     "{} has failed: {}\nremove it (hob domain rm {} {}), and add it again", name,
                     printable(text_at(domain, "Reason")), service.name, name);
  }
  if (context.json)
    printf("%s\n", json::serialize(domain).c_str());
  else if (options.no_wait)
    printf("%s is being added to %s; see: hob domain ls %s\n", name.c_str(), service.name.c_str(),
           service.name.c_str());
  else
    printf("%s leads to %s\n", name.c_str(), service.name.c_str());
  co_return Result<void>{};
}

// What is said of a domain that is not further: its reason, or what it waits for.
std::string why_of(const json::object& domain) {
  const std::string status = text_at(domain, "Status");
  const std::string reason = printable(text_at(domain, "Reason"));
  if (!reason.empty() || status == "active") return reason;
  if (status == "binding_certificate") return "its certificate is being made";
  if (status != "pending_certificate_dns_validation") return "";
  const json::value* records = domain.if_contains("CertificateValidationRecords");
  if (records == nullptr || !records->is_array()) return "";
  for (const json::value& each : records->as_array()) {
    if (!each.is_object()) continue;
    const json::object& record = each.as_object();
    return fmt::format("not in the DNS yet: {} {} {}", printable(text_at(record, "Name")),
                       printable(text_at(record, "Type")), printable(text_at(record, "Value")));
  }
  return "";
}

Async<Result<void>> list(const Context& context, std::string wanted) {
  HOB_CO_TRY(Api api, Api::open(context));
  std::vector<ServiceLine> services;
  if (wanted.empty()) {
    HOB_CO_TRY(services, co_await list_services(api));
  } else {
    HOB_CO_TRY(ServiceLine one, co_await find_service(api, std::move(wanted)));
    services.push_back(std::move(one));
  }
  std::vector<std::vector<std::string>> rows = {{"SERVICE", "DOMAIN", "STATUS", "WHY"}};
  json::array all;
  for (const ServiceLine& service : services) {
    HOB_CO_TRY(json::array domains, co_await domains_of(api, service.arn));
    for (json::value& each : domains) {
      if (!each.is_object()) continue;
      json::object& domain = each.as_object();
      domain["ServiceName"] = service.name;
      const json::value* www = domain.if_contains("EnableWWWSubdomain");
      const bool both = www != nullptr && www->is_bool() && www->as_bool();
      rows.push_back({service.name,
                      printable(text_at(domain, "DomainName")) + (both ? ", www." : ""),
                      text_at(domain, "Status"), why_of(domain)});
      all.push_back(std::move(each));
    }
  }
  if (context.json)
    printf("%s\n", json::serialize(json::object{{"Domains", std::move(all)}}).c_str());
  else
    printf("%s", table(rows).c_str());
  co_return Result<void>{};
}

Async<Result<void>> remove(const Context& context, DomainOptions options) {
  HOB_CO_TRY(Api api, Api::open(context));
  HOB_CO_TRY(ServiceLine service, co_await find_service(api, options.service));
  json::object input = {{"ServiceArn", service.arn}, {"DomainName", options.domain}};
  HOB_CO_TRY(json::object gone, co_await api.call("apprunner", "AppRunner.DisassociateCustomDomain",
                                                  std::move(input)));
  const json::value* about = gone.if_contains("CustomDomain");
  const std::string name = about != nullptr && about->is_object()
                               ? text_at(about->as_object(), "DomainName")
                               : options.domain;
  if (!options.no_wait) {
    Progress progress(context.json);
    HOB_CO_CHECK(co_await await_domain(api, service.arn, name, progress,
                                       [](const json::object& now) { return now.empty(); }));
  }
  if (context.json)
    printf("%s\n", json::serialize(json::object{{"DomainName", name}}).c_str());
  else
    printf("%s %s %s\n", name.c_str(), options.no_wait ? "is being taken from" : "leads no more to",
           service.name.c_str());
  co_return Result<void>{};
}

}  // namespace

void add_domain(CLI::App& program, Context& context) {
  CLI::App* domain = program.add_subcommand("domain", "Host names of your own for services");
  domain->require_subcommand(1);
  domain->fallthrough();
  auto options = std::make_shared<DomainOptions>();
  CLI::App* make = domain->add_subcommand("add", "Let one lead to a service; says what DNS needs");
  make->add_option("service", options->service, "Its name")->required();
  make->add_option("domain", options->domain, "shop.example.com, *.shop.example.com")->required();
  make->add_flag("--no-www", options->no_www, "Not www. before it, too");
  make->add_flag("--no-wait", options->no_wait, "Return at once");
  on_run(*make, context,
         [&context, options]() -> Async<Result<void>> { return add(context, *options); });

  auto wanted = std::make_shared<std::string>();
  CLI::App* all = domain->add_subcommand("ls", "Which there are, and how far each is");
  all->add_option("service", *wanted, "Of one service");
  on_run(*all, context,
         [&context, wanted]() -> Async<Result<void>> { return list(context, *wanted); });

  CLI::App* gone = domain->add_subcommand("rm", "Take one from its service");
  gone->add_option("service", options->service, "Its name")->required();
  gone->add_option("domain", options->domain, "The domain")->required();
  gone->add_flag("--no-wait", options->no_wait, "Return at once");
  on_run(*gone, context,
         [&context, options]() -> Async<Result<void>> { return remove(context, *options); });
}

}  // namespace hob::cli
