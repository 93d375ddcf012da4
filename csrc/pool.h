// The thread pool: dynamic hand-out of numbered tasks, safe to use after fork and from several threads.
#pragma once

#include <stdint.h>

#include <functional>

namespace interp_fast {

// Runs body(task, worker) for every task in [0, tasks) on at most `threads` threads, the caller among them; `worker`
// is below `threads` and no two tasks with the same worker run at once. Tasks are handed out in order, to whoever is
// free. A call from inside a task, or while another thread uses the pool, runs on the calling thread alone. The first
// exception of a task is rethrown here.
void parallel_for(int64_t tasks, int threads, const std::function<void(int64_t task, int worker)>& body);

}  // namespace interp_fast
