// What hob-monitor tells the agent that started it: one byte, and after kFailed a text for people,
// at most kOutputChunkBytesMax; then the end.
#pragma once

namespace hob::sandbox {

inline constexpr int kAnswerFd = 3;  // of hob-monitor, a pipe's writing end
inline constexpr char kStarted = '+';
inline constexpr char kFailed = '-';
// What a runtime says about its failure begins so where the image or the task is at fault.
inline constexpr char kInvalidMark = '\1';

}  // namespace hob::sandbox
