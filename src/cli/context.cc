#include "cli/context.h"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/json.hpp>
#include <cstdio>
#include <exception>

#include "cli/terminal.h"

namespace hob::cli {

Result<Instance> Context::instance() const {
  const std::filesystem::path path = std::filesystem::absolute(data).lexically_normal();
  Result<Instance> found = load_instance(path);
  if (found || found.error().code != Code::kNotFound) return found;
  return fail(Code::kNotFound, "there is no Hob in {}; start one with: hob up{}", path.string(),
              path == kDefaultData ? "" : " --data " + path.string());
}

void run_body(Context& context, const std::string& name, Body body) {
  boost::asio::io_context loop(1);
  Result<void> outcome;
  boost::asio::co_spawn(loop, body(), [&](std::exception_ptr exception, Result<void> result) {
    if (exception) std::rethrow_exception(exception);
    outcome = std::move(result);
  });
  loop.run();
  if (outcome) return;
  context.exit_code = 1;
  const Error& error = outcome.error();
  if (context.json) {
    const boost::json::object object = {
        {"error",
         {{"code", error.aws_code.empty() ? word(error.code) : error.aws_code.c_str()},
          {"message", error.message}}}};
    printf("%s\n", boost::json::serialize(object).c_str());
    return;
  }
  fflush(stdout);
  fprintf(stderr, "hob %s: %s\n", name.c_str(), error.message.c_str());
}

void on_run(CLI::App& command, Context& context, Body body) {
  // "domain add", not "add".
  std::string name = command.get_name();
  for (const CLI::App* above = command.get_parent();
       above != nullptr && above->get_parent() != nullptr; above = above->get_parent()) {
    name = above->get_name() + " " + name;
  }
  command.callback([&context, name = std::move(name), body = std::move(body)] {
    run_body(context, name, body);
  });
}

void refuse_empty_values(CLI::App& command) {
  for (CLI::Option* option : command.get_options()) {
    if (option->get_items_expected_max() == 0) continue;  // a flag
    option->check([](const std::string& value) {
      return value.empty() ? std::string("it is empty; leave it out to change nothing")
                           : std::string();
    });
  }
}

std::string text_at(const boost::json::object& object, std::string_view name) {
  const boost::json::value* value = object.if_contains(name);
  return value != nullptr && value->is_string() ? std::string(value->as_string()) : std::string();
}

}  // namespace hob::cli
