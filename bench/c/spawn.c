// spawn SECONDS IN_FLIGHT DESCRIPTORS: runs of /bin/true per second by posix_spawn and waitpid alone, and our
// own processor time for each in microseconds; nothing is read.
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec / 1e9;
}

static double used(void) {
  struct rusage u;
  getrusage(RUSAGE_SELF, &u);
  return u.ru_utime.tv_sec + u.ru_stime.tv_sec + (u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static void start(void) {
  char *argv[] = {"true", NULL};
  pid_t pid;
  if (posix_spawn(&pid, "/bin/true", NULL, NULL, argv, environ)) exit(1);
}

int main(int argc, char **argv) {
  if (argc != 4) return 2;
  double seconds = atof(argv[1]);
  int in_flight = atoi(argv[2]), descriptors = atoi(argv[3]);
  for (int i = 0; i < descriptors; i++)
    if (open("/dev/null", O_RDONLY | O_CLOEXEC) < 0) return 3;
  double begin = now(), before = used();
  long done = 0;
  for (int i = 0; i < in_flight; i++) start();
  while (now() < begin + seconds) {
    waitpid(-1, NULL, 0);
    done++;
    start();
  }
  printf("%f %f\n", done / (now() - begin), (used() - before) / done * 1e6);
  while (waitpid(-1, NULL, 0) > 0) {}
  return 0;
}
