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

// The same for tasks of single queries, which are many, and short, and follow each other in memory: neighbours go
// together, and mostly to the thread that had them in the loop before, and has them in its cache.
void parallel_by_query(int64_t tasks, int threads, const std::function<void(int64_t task)>& body);

// While one exists, loops of the thread that made it call `poll` between tasks, some times a second; it may throw, as a
// task may.
class Polled {
 public:
  explicit Polled(void (*poll)());
  ~Polled();
  Polled(const Polled&) = delete;
  Polled& operator=(const Polled&) = delete;

 private:
  void (*before_)();
};

// For tasks that may take longer than a fraction of a second: polls where that is due, and throws when the loop has
// failed elsewhere.
void checkpoint();

}  // namespace interp_fast
