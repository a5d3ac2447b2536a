// writer: writes a line of 80 bytes to stdout every 20 ms, for ever: a chatty server.
#include <string.h>
#include <time.h>
#include <unistd.h>

int main(void) {
  char line[80];
  struct timespec pause = {0, 20000000};
  memset(line, 'x', sizeof line);
  line[sizeof line - 1] = '\n';
  while (write(1, line, sizeof line) > 0) nanosleep(&pause, NULL);
  return 0;
}
