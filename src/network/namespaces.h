// Network namespaces with a name: made, entered, and removed by the path their handle is bound at.
// Private to this room.
//
// A handle is a bind mount of the namespace's file in /proc, so it lasts without any process.
// Removing the file that it is mounted on takes the mount away in every mount namespace (Linux does
// so since 3.18), so nothing that was cloned meanwhile keeps it alive. Root only.
#pragma once

#include <filesystem>
#include <functional>
#include <string_view>

#include "base/result.h"

namespace hob::network {

// Runs `body` with the calling thread inside the namespace at `handle`, and comes back; aborts if
// it cannot.
Result<void> in_namespace(const std::filesystem::path& handle,
                          const std::function<Result<void>()>& body);
// Makes a new namespace, runs `body` inside it, then binds it at `handle`. If `body` fails, nothing
// is left. kExists: something is bound there.
Result<void> make_namespace(const std::filesystem::path& handle,
                            const std::function<Result<void>()>& body);
// Is a namespace bound there? (A plain file is what a crash between making and binding leaves.)
bool is_namespace(const std::filesystem::path& handle);
// Idempotent. The namespace itself lives on while processes are in it.
Result<void> remove_namespace(const std::filesystem::path& handle);

// /proc/sys/net/<name> of the calling thread's namespace.
Result<void> set_sysctl(std::string_view name, std::string_view value);
Result<std::string> get_sysctl(std::string_view name);

}  // namespace hob::network
