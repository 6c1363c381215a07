// hob up: starts an instance and keeps it running.
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <cctype>
#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "base/certificate.h"
#include "base/log.h"
#include "certify/dns.h"
#include "certify/jose.h"
#include "cli/commands.h"
#include "cli/local_certificate.h"
#include "cli/microvms.h"
#include "cli/supervisor.h"
#include "cli/supervisor_succession.h"

namespace hob::cli {
namespace {

constexpr size_t kAcmeCaBytesMax = 1024 * 1024;
constexpr size_t kEabKeyBytesMax = 1024;

struct UpOptions {
  std::string region{};
  uint16_t api_port = 0;
  uint16_t http_port = 0;
  uint16_t https_port = 0;
  std::string store{};
  std::string isolation{};  // "auto": as it can be
  double cpu_overcommit = 0;
  double memory_overcommit = 0;
  std::string acme_directory{};  // "none": no more, as in the next ones
  std::string acme_contact{};
  std::string acme_ca_file{};
  std::string acme_eab_kid{};
  std::string acme_eab_key_file{};
  std::string acme_challenge{};
  std::string resolver{};
  std::string ocsp_responders{};
  bool is_public = false;
  bool detach = false;
};

// An account that the authority made before: its id, and its key from a file, never from the
// command line, which everybody on the machine reads.
Result<void> set_external_account(const UpOptions& options, Instance& instance) {
  if (options.acme_eab_kid.empty() && options.acme_eab_key_file.empty()) return {};
  if (options.acme_eab_kid == "none") {
    instance.acme_eab_kid.clear();
    std::error_code ignored;
    std::filesystem::remove(instance.acme_eab_key_file(), ignored);
    return {};
  }
  if (options.acme_eab_kid.empty() || options.acme_eab_key_file.empty())
    return fail(Code::kInvalid, "--acme-eab-kid and --acme-eab-key-file go together");
  HOB_TRY(std::string key, read_file(options.acme_eab_key_file, kEabKeyBytesMax));
  while (!key.empty() && std::isspace(static_cast<unsigned char>(key.back()))) key.pop_back();
  while (key.ends_with('=')) key.pop_back();
  const auto bytes = certify::unbase64url(key);
  if (!bytes || bytes->empty())
    return fail(Code::kInvalid, "--acme-eab-key-file {}: it must have the MAC key as base64url",
                options.acme_eab_key_file);
  HOB_CHECK(write_owned(instance.acme_eab_key_file(), key, kControlUid));
  instance.acme_eab_kid = options.acme_eab_kid;
  return {};
}

// What is said of custom domains, over what is on disk.
Result<void> set_domains(const UpOptions& options, Instance& instance) {
  const auto set = [](const std::string& given, std::string& kept) {
    if (!given.empty()) kept = given == "none" ? "" : given;
  };
  if (!options.acme_directory.empty() && options.acme_directory != "none" &&
      !options.acme_directory.starts_with("https://")) {
    return fail(Code::kInvalid, "--acme-directory {}: it must be an https URL",
                options.acme_directory);
  }
  if (options.resolver != "none")
    HOB_CHECK(context(certify::ResolverDns::check(options.resolver), "--resolver"));
  set(options.acme_directory, instance.acme_directory);
  set(options.acme_contact, instance.acme_contact);
  set(options.acme_challenge, instance.acme_challenge);
  set(options.resolver, instance.resolver);
  set(options.ocsp_responders, instance.ocsp_responders);
  HOB_CHECK(set_external_account(options, instance));
  if (options.acme_ca_file.empty()) return {};
  instance.acme_ca = options.acme_ca_file != "none";
  if (!instance.acme_ca) return {};
  // Control is a user of its own, who may not read whatever root may.
  HOB_TRY(const std::string pem, read_file(options.acme_ca_file, kAcmeCaBytesMax));
  HOB_CHECK(context(read_certificate(pem), "--acme-ca-file {}", options.acme_ca_file));
  HOB_CHECK(make_directories(instance.acme_ca_file().parent_path(), 0755));
  return write_file_durably(instance.acme_ca_file(), pem, 0644);
}

// What is on disk, with what was asked for over it.
Result<Instance> instance_for(const Context& context, const UpOptions& options) {
  const std::filesystem::path data = std::filesystem::absolute(context.data).lexically_normal();
  Result<Instance> known = load_instance(data);
  if (!known && known.error().code != Code::kNotFound) return known;
  Instance instance = known ? *known : Instance{.data = data, .id = new_instance_id()};
  if (!options.region.empty()) {
    if (known && known->region != options.region) {
      return fail(Code::kConflict, "{} belongs to region {}; another region needs another --data",
                  data.string(), known->region);
    }
    instance.region = options.region;
  }
  if (!options.store.empty() && options.store != "sqlite") {
    return fail(Code::kInvalid, "--store {}: only sqlite is there yet", options.store);
  }
  if (options.is_public && !instance.is_public) {
    instance.is_public = true;
    instance.http_port = 80;
    instance.https_port = 443;
  }
  if (options.api_port != 0) instance.api_port = options.api_port;
  if (options.http_port != 0) instance.http_port = options.http_port;
  if (options.https_port != 0) instance.https_port = options.https_port;
  if (!options.isolation.empty())
    instance.isolation = options.isolation == "auto" ? "" : options.isolation;
  if (instance.isolation == "microvm") {
    HOB_CHECK(hob::context(check_microvms(instance.kernel()), "--isolation microvm"));
  }
  if (options.cpu_overcommit != 0) instance.cpu_overcommit = options.cpu_overcommit;
  if (options.memory_overcommit != 0) instance.memory_overcommit = options.memory_overcommit;
  if (instance.api_port == instance.http_port || instance.api_port == instance.https_port) {
    return fail(Code::kInvalid, "the API and services cannot both have port {}", instance.api_port);
  }
  if (instance.http_port == instance.https_port) {
    return fail(Code::kInvalid, "services cannot have port {} with TLS and without",
                instance.http_port);
  }
  return instance;
}

std::string port_suffix(uint16_t port, uint16_t usual) {
  return port == usual ? "" : ":" + std::to_string(port);
}

std::string where_all_is(const Instance& instance) {
  const std::string data = instance.data == kDefaultData ? "" : " --data " + instance.data.string();
  return fmt::format(
      "  API, registry  {0}\n"
      "  services       http://SUBDOMAIN.{1}.hob.localhost{2} (hob ps)\n"
      "                 https://SUBDOMAIN.{1}.hob.localhost{3}\n"
      "  authority      {4} (hob trust{5} installs it)\n"
      "  data           {6}\n"
      "  logs           {7}\n"
      "  for aws, boto3 eval \"$(hob env{5})\"",
      instance.endpoint(), instance.region, port_suffix(instance.http_port, 80),
      port_suffix(instance.https_port, 443), authority_path(instance).string(), data,
      instance.data.string(), (instance.data / "log").string());
}

std::string ready_line(const Instance& instance) {
  return fmt::format("ready: the API answers at {}; try: hob deploy IMAGE", instance.endpoint());
}

// Where the supervisor's own words go: stdout, and to the pipe of a detached parent until it is
// ready.
void say(const std::string& text) {
  printf("%s\n", text.c_str());
  fflush(stdout);
}

// Where systemd wants to hear of us; empty: it did not start us. Taken out of the environment,
// which daemons and what they start inherit: crun would wait for the task to say that it is ready.
std::string take_notify_socket() {
  const char* const path = getenv("NOTIFY_SOCKET");
  std::string taken = path == nullptr ? "" : path;
  unsetenv("NOTIFY_SOCKET");
  return taken;
}

// So that `systemctl start hob` (share/hob.service, Type=notify) returns only now, and what comes
// after it may use the API. sd_notify(3): a datagram; '@' stands for the NUL of an abstract name.
void tell_systemd_ready(const std::string& path) {
  sockaddr_un to{};
  to.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof to.sun_path) return;
  path.copy(to.sun_path, path.size());
  if (to.sun_path[0] == '@') to.sun_path[0] = '\0';
  const Fd socket_to(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  constexpr std::string_view kReady = "READY=1";
  const auto bytes = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size());
  if (!socket_to || sendto(socket_to.get(), kReady.data(), kReady.size(), MSG_NOSIGNAL,
                           reinterpret_cast<const sockaddr*>(&to), bytes) < 0) {
    log::warn("systemd was not told that Hob is ready", {{"socket", path}});
  }
}

// Until it is asked to end.
Async<Result<void>> supervise_on(Supervisor& supervisor) {
  const Ending ending = co_await supervisor.wait();
  say(ending == Ending::kDown ? "stopping, with all tasks"
                              : "stopping; tasks run on until `hob up` or `hob down`");
  co_return co_await supervisor.stop(ending);
}

Async<Result<void>> supervise(const Instance& instance, Fd lock, bool detached,
                              const std::string& notify_socket) {
  const Executor executor = co_await boost::asio::this_coro::executor;
  Supervisor supervisor(executor, instance, std::move(lock), say);
  HOB_CO_CHECK(co_await supervisor.start());
  say(where_all_is(instance));
  say(ready_line(instance));
  tell_systemd_ready(notify_socket);
  if (detached) {
    // The parent leaves when it has read "ready"; from here on words go to the log.
    const Fd log(
        open(instance.log("supervisor").c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640));
    if (log) {
      dup2(log.get(), STDOUT_FILENO);
      dup2(log.get(), STDERR_FILENO);
    }
  }
  co_return co_await supervise_on(supervisor);
}

// Whether this program could take over what stdin says.
Result<void> check_resumption(const std::filesystem::path& data) {
  HOB_CHECK(load_instance(data));
  HOB_CHECK(find_hobd());
  HOB_TRY(const std::string words, try_state(STDIN_FILENO));
  say(words);
  return {};
}

// Back to the program before this one; else this process ends, and its daemons with it: who
// starts it again finds all tasks.
[[noreturn]] void give_back(const Resumption& resumption, const std::filesystem::path& data,
                            const SupervisorState* state, const std::string& why) {
  log::error("this hob cannot go on", {{"error", why}});
  if (resumption.previous_fd >= 0) {
    const Error failed = execute_previous(resumption, data.string(), state, why);
    log::error("nor can the one before", {{"error", failed.message}});
  }
  _exit(1);
}

Async<Result<void>> resume(const Resumption& resumption, const std::filesystem::path& data,
                           const Instance& instance, const SupervisorState& state) {
  const Executor executor = co_await boost::asio::this_coro::executor;
  Supervisor supervisor(executor, instance, Fd(), say);
  if (Result<void> done = supervisor.succeed(state, resumption.error); !done)
    give_back(resumption, data, &state, done.error().message);
  close(resumption.state_fd);
  if (resumption.previous_fd >= 0) close(resumption.previous_fd);
  co_return co_await supervise_on(supervisor);
}

// In the place of a supervisor that executed this program.
void run_resumed(Context& context, const Resumption& resumption) {
  const std::filesystem::path data = context.data;
  const Result<Instance> instance = load_instance(data);
  if (!instance) give_back(resumption, data, nullptr, instance.error().message);
  const Result<SupervisorState> state = read_state(resumption.state_fd);
  if (!state) give_back(resumption, data, nullptr, state.error().message);
  run_body(context, "up",
           [&]() -> Async<Result<void>> { return resume(resumption, data, *instance, *state); });
}

// In the child: returns. In the parent: passes on what the child says, and exits when it is ready
// or has failed.
Result<void> detach() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return fail_errno(errno, "making a pipe");
  const pid_t pid = fork();
  if (pid < 0) return fail_errno(errno, "forking");
  if (pid == 0) {
    setsid();
    dup2(ends[1], STDOUT_FILENO);
    dup2(ends[1], STDERR_FILENO);
    // All else that was inherited, too: a pipe of the caller's would not end before we do.
    close_range(STDERR_FILENO + 1, ~0U, 0);
    const Fd nothing(open("/dev/null", O_RDONLY | O_CLOEXEC));
    dup2(nothing.get(), STDIN_FILENO);
    return {};
  }
  close(ends[1]);
  std::string text;
  char buffer[4096];
  ssize_t got = 0;
  while ((got = read(ends[0], buffer, sizeof buffer)) > 0) {
    fwrite(buffer, 1, static_cast<size_t>(got), stdout);
    fflush(stdout);
    text.append(buffer, static_cast<size_t>(got));
    const size_t ready = text.starts_with("ready") ? 0 : text.find("\nready");
    if (ready != std::string::npos && text.find('\n', ready + 1) != std::string::npos) _exit(0);
  }
  int status = 0;
  waitpid(pid, &status, 0);
  _exit(WIFEXITED(status) && WEXITSTATUS(status) != 0 ? WEXITSTATUS(status) : 1);
}

Result<Instance> prepare(const Context& context, const UpOptions& options) {
  if (geteuid() != 0) {
    return fail(Code::kDenied,
                "hob up needs root, to make namespaces, mounts and cgroups: sudo hob up");
  }
  return instance_for(context, options);
}

}  // namespace

void add_up(CLI::App& program, Context& context) {
  auto options = std::make_shared<UpOptions>();
  CLI::App* command = program.add_subcommand("up", "Start Hob (again: adopt what runs)");
  command->add_option("--region", options->region, "AWS's region to be (us-east-1)");
  command->add_option("--api-port", options->api_port, "Port of the API and the registry (4566)")
      ->check(CLI::Range(1, 65535));
  command->add_option("--http-port", options->http_port, "Port where services answer (8080)")
      ->check(CLI::Range(1, 65535));
  command->add_option("--https-port", options->https_port, "Port where services answer TLS (8443)")
      ->check(CLI::Range(1, 65535));
  command->add_option("--store", options->store, "Where records are kept (sqlite)");
  command
      ->add_option("--isolation", options->isolation,
                   "What tasks run in: microvm, container, or auto: microvm where KVM works and a "
                   "kernel is installed (hob kernel install)")
      ->check(CLI::IsMember({"auto", "microvm", "container"}));
  command
      ->add_option("--cpu-overcommit", options->cpu_overcommit,
                   "CPU sizes promised for each CPU there is")
      ->check(CLI::Range(0.1, 1000.0));
  command
      ->add_option("--memory-overcommit", options->memory_overcommit,
                   "Memory sizes promised for each byte there is")
      ->check(CLI::Range(0.1, 100.0));
  command->add_option("--acme-directory", options->acme_directory,
                      "URL of an ACME authority for custom domains; none: no more");
  command->add_option("--acme-contact", options->acme_contact, "Mail address for that authority");
  command->add_option("--acme-ca-file", options->acme_ca_file,
                      "PEM of who vouches for the ACME server, if it is no public authority");
  command->add_option("--acme-eab-kid", options->acme_eab_kid,
                      "Key id of an account that the authority made (external account binding)");
  command->add_option("--acme-eab-key-file", options->acme_eab_key_file,
                      "File with that account's MAC key, as base64url");
  command
      ->add_option("--acme-challenge", options->acme_challenge,
                   "How the authority asks: http-01 (port 80), tls-alpn-01 (port 443)")
      ->check(CLI::IsMember({"http-01", "tls-alpn-01"}));
  command->add_option(
      "--resolver", options->resolver,
      "DNS resolver to ask about custom domains (/etc/resolv.conf's): ADDRESS[:PORT]");
  command
      ->add_option(
          "--ocsp-responders", options->ocsp_responders,
          "Whom certificates may name to be asked about them: public (addresses alone), or "
          "any, in your networks, too")
      ->check(CLI::IsMember({"public", "any"}));
  command->add_flag("--public", options->is_public, "Services on all addresses, ports 80 and 443");
  command->add_flag("--detach", options->detach,
                    "Return when it is ready, run on in the background");
  // Said by another supervisor, not by people.
  const auto resumption = std::make_shared<Resumption>();
  command->add_flag("--resume-check", resumption->check)->group("");
  command->add_option("--resume-fd", resumption->state_fd)->group("");
  command->add_option("--previous-fd", resumption->previous_fd)->group("");
  command->add_option("--resume-error", resumption->error)->group("");
  // Before any loop: a loop does not survive fork.
  command->callback([&context, options, resumption] {
    const auto refuse = [&](const Error& error) {
      fprintf(stderr, "hob up: %s\n", error.message.c_str());
      context.exit_code = 1;
    };
    if (resumption->check) {
      if (Result<void> able = check_resumption(context.data); !able) refuse(able.error());
      return;
    }
    if (resumption->state_fd >= 0) return run_resumed(context, *resumption);
    Result<Instance> instance = prepare(context, *options);
    if (!instance) return refuse(instance.error());
    if (is_running(*instance)) {
      const Result<Instance> running = load_instance(instance->data);
      const Instance& shown = running ? *running : *instance;
      say(where_all_is(shown));
      say("ready: Hob was running already");
      return;
    }
    if (Result<void> prepared = prepare_data(*instance); !prepared) return refuse(prepared.error());
    if (Result<void> set = set_domains(*options, *instance); !set) return refuse(set.error());
    if (Result<void> saved = save_instance(*instance); !saved) return refuse(saved.error());
    if (options->detach) {
      if (Result<void> detached = detach(); !detached) return refuse(detached.error());
    }
    // After detaching: the lock belongs to the process that holds it open.
    Result<Fd> lock = lock_instance(*instance);
    if (!lock) return refuse(lock.error());
    // Under the lock: two that make an authority at once would leave the key of one beside the
    // certificate of the other.
    if (auto kept = keep_certificate(*instance, SystemClock().now()); !kept)
      return refuse(kept.error());
    const Instance started = *instance;
    const bool is_detached = options->detach;
    const std::string notify_socket = take_notify_socket();
    const auto held = std::make_shared<Fd>(std::move(*lock));
    run_body(context, "up", [=]() -> Async<Result<void>> {
      return supervise(started, std::move(*held), is_detached, notify_socket);
    });
  });
}

}  // namespace hob::cli
