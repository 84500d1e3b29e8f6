// smtpload: an SMTP load client in one thread, with latency percentiles and a log of what was acknowledged.
//
// It opens SESSIONS connections at once and sends MESSAGES mails in all, by default one mail a connection, as mail
// servers that forward do. Each mail carries "RUN-NUMBER" in its Message-ID and ends with a line "end of RUN-NUMBER",
// so that a reader can tell which mails arrived, and arrived whole. A line "RUN-NUMBER CODE UNIXTIME" goes to the
// acknowledgement log, unbuffered, when the final reply was 2xx. One line of JSON on standard output sums up.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static const char *USAGE =
    "usage: smtpload [options]\n"
    "  -h ADDRESS   server, numeric (127.0.0.1)\n"
    "  -p PORT      port (25)\n"
    "  -s SESSIONS  connections at once (1)\n"
    "  -m MESSAGES  mails in all (1000)\n"
    "  -l BYTES     size of a mail, about (10240)\n"
    "  -k MAILS     mails a connection (1)\n"
    "  -T SECONDS   stop starting mails after this time (120)\n"
    "  -f ADDRESS   sender      -t ADDRESS   recipient\n"
    "  -i RUN       prefix of the mails' names (r)\n"
    "  -a FILE      acknowledgement log\n"
    "  -e ERRORS    stop after this many failures (no end)\n"
    "  -P           send MAIL, RCPT and DATA in one write (PIPELINING)\n"
    "  -Q           wait for the reply to QUIT instead of closing after it\n";

// What a session waits for.
enum state { CONNECTING, BANNER, EHLO, MAIL, RCPT, DATA, BODY, QUIT };

struct session {
  int fd;               // -1 when there is no connection
  enum state state;
  int wants_write;      // what epoll was last told
  int mails;            // mails sent over this connection
  char input[4096];
  size_t input_length;
  char *output;         // commands or a whole mail, ours
  size_t output_length, output_sent;
  long number;          // of the mail under way
  double began;         // when its MAIL command was sent
  double sent;          // when its last byte was handed to the kernel
  double not_before;    // when to connect again
};

static const char *host = "127.0.0.1", *from = "load@example.org", *to = "support@localhost", *run = "r";
static int port = 25, sessions = 1, mails_a_connection = 1, pipelining, wait_for_quit;
static long messages = 1000, size = 10240, max_errors = 1L << 60;
static double max_seconds = 120;

static char *text;  // the part of the body that all mails share
static size_t text_length;
static int poller, open_connections;
static long started, acknowledged, errors, lost, refused_connections;
static long codes[1000];
static double began, last_acknowledged;
static double *latencies, *acceptances;
static long capacity;
static FILE *log_of_acks;

static const double RETRY_SECONDS = 0.05, GRACE_SECONDS = 30;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec / 1e9;
}

static int more_to_send(void) {
  return started < messages && now() - began < max_seconds && errors < max_errors;
}

static void watch(struct session *s, int writing) {
  if (s->wants_write == writing) return;
  struct epoll_event event = {.events = EPOLLIN | (writing ? EPOLLOUT : 0), .data.ptr = s};
  epoll_ctl(poller, EPOLL_CTL_MOD, s->fd, &event);
  s->wants_write = writing;
}

static void hang_up(struct session *s, double pause) {
  if (s->fd >= 0) {
    close(s->fd);
    s->fd = -1;
    open_connections--;
  }
  s->not_before = now() + pause;
}

static void dial(struct session *s) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
  inet_pton(AF_INET, host, &address.sin_addr);
  s->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  if (s->fd < 0) {
    refused_connections++;
    s->not_before = now() + RETRY_SECONDS;
    return;
  }
  int one = 1;
  setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  s->state = CONNECTING;
  s->input_length = s->output_length = s->output_sent = 0;
  s->mails = 0;
  open_connections++;
  if (connect(s->fd, (struct sockaddr *)&address, sizeof address) < 0 && errno != EINPROGRESS) {
    refused_connections++;
    hang_up(s, RETRY_SECONDS);
    return;
  }
  struct epoll_event event = {.events = EPOLLIN | EPOLLOUT, .data.ptr = s};
  epoll_ctl(poller, EPOLL_CTL_ADD, s->fd, &event);
  s->wants_write = 1;
}

static void push(struct session *s) {
  while (s->output_sent < s->output_length) {
    ssize_t n = send(s->fd, s->output + s->output_sent, s->output_length - s->output_sent, MSG_NOSIGNAL);
    if (n < 0 && errno == EAGAIN) {
      watch(s, 1);
      return;
    }
    if (n < 0) return;  // the reading side sees the end of the connection
    s->output_sent += n;
  }
  if (s->state == BODY) s->sent = now();
  watch(s, 0);
}

static void say(struct session *s, enum state next, const char *line) {
  s->state = next;
  s->output_length = sprintf(s->output, "%s", line);
  s->output_sent = 0;
  push(s);
}

static void begin_mail(struct session *s) {
  char line[1024];
  s->number = started++;
  s->began = now();
  if (pipelining)
    snprintf(line, sizeof line, "MAIL FROM:<%s>\r\nRCPT TO:<%s>\r\nDATA\r\n", from, to);
  else
    snprintf(line, sizeof line, "MAIL FROM:<%s>\r\n", from);
  say(s, MAIL, line);
}

static void send_body(struct session *s) {
  size_t n = sprintf(s->output,
                     "From: Load <%s>\r\nTo: <%s>\r\nSubject: load message %s-%ld\r\n"
                     "Message-ID: <%s-%ld@load.example.org>\r\nDate: Sat, 21 Nov 2026 10:00:00 +0000\r\n"
                     "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n",
                     from, to, run, s->number, run, s->number);
  memcpy(s->output + n, text, text_length);
  n += text_length;
  n += sprintf(s->output + n, "end of %s-%ld\r\n.\r\n", run, s->number);
  s->state = BODY;
  s->output_length = n;
  s->output_sent = 0;
  push(s);
}

static void failed(struct session *s, int code) {
  errors++;
  if (code > 0 && code < 1000) codes[code]++;
  hang_up(s, RETRY_SECONDS);
}

static void note_acknowledged(struct session *s, int code) {
  double t = now();
  codes[code]++;
  if (acknowledged < capacity) {
    latencies[acknowledged] = t - s->began;
    acceptances[acknowledged] = t - s->sent;
  }
  acknowledged++;
  last_acknowledged = t;
  if (!log_of_acks) return;
  struct timespec wall;
  clock_gettime(CLOCK_REALTIME, &wall);
  fprintf(log_of_acks, "%s-%ld %d %ld.%06ld\n", run, s->number, code, (long)wall.tv_sec, wall.tv_nsec / 1000);
}

static void after_body(struct session *s, int code) {
  if (code / 100 == 2) {
    note_acknowledged(s, code);
  } else {
    errors++;
    codes[code]++;
  }
  s->mails++;
  if (s->mails < mails_a_connection && more_to_send()) {
    begin_mail(s);
    return;
  }
  say(s, QUIT, "QUIT\r\n");
  if (!wait_for_quit) hang_up(s, 0);
}

// One whole reply has come; what follows depends on what the session waited for.
static void handle_reply(struct session *s, int code) {
  static const int wanted[] = {[CONNECTING] = 220, [BANNER] = 220, [EHLO] = 250, [MAIL] = 250, [RCPT] = 250, [DATA] = 354};
  if (code < 100 || code > 599) code = 599;
  if (s->state == BODY) {
    after_body(s, code);
    return;
  }
  if (s->state == QUIT) {
    hang_up(s, 0);
    return;
  }
  if (code != wanted[s->state]) {
    failed(s, code);
    return;
  }
  char line[600];
  switch (s->state) {
    case CONNECTING:
    case BANNER:
      say(s, EHLO, "EHLO load.example.org\r\n");
      break;
    case EHLO:
      if (more_to_send())
        begin_mail(s);
      else
        say(s, QUIT, "QUIT\r\n");
      break;
    case MAIL:
      snprintf(line, sizeof line, "RCPT TO:<%s>\r\n", to);
      if (pipelining)
        s->state = RCPT;
      else
        say(s, RCPT, line);
      break;
    case RCPT:
      if (pipelining)
        s->state = DATA;
      else
        say(s, DATA, "DATA\r\n");
      break;
    case DATA:
      send_body(s);
      break;
    default:
      break;
  }
}

static void take_input(struct session *s) {
  ssize_t n = read(s->fd, s->input + s->input_length, sizeof s->input - 1 - s->input_length);
  if (n < 0 && errno == EAGAIN) return;
  if (n <= 0) {
    if (s->state == CONNECTING || s->state == BANNER)
      refused_connections++;
    else if (s->state != QUIT) {
      lost++;
      errors++;
    }
    hang_up(s, s->state == QUIT ? 0 : RETRY_SECONDS);
    return;
  }
  s->input_length += n;
  char *end;
  while (s->fd >= 0 && (end = memchr(s->input, '\n', s->input_length))) {
    size_t used = end - s->input + 1;
    int code = used >= 4 ? atoi(s->input) : 0;
    int last = used < 4 || s->input[3] != '-';
    memmove(s->input, end + 1, s->input_length - used);
    s->input_length -= used;
    if (last) handle_reply(s, code);
  }
  if (s->input_length >= sizeof s->input - 1) s->input_length = 0;
}

static void take_output(struct session *s) {
  if (s->state != CONNECTING) {
    push(s);
    return;
  }
  int trouble = 0;
  socklen_t length = sizeof trouble;
  getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &trouble, &length);
  if (trouble) {
    refused_connections++;
    hang_up(s, RETRY_SECONDS);
    return;
  }
  s->state = BANNER;
  watch(s, 0);
}

static void make_text(void) {
  static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+ ";
  long target = size - 330;
  if (target < 80) target = 80;
  text = malloc(target + 200);
  unsigned state = 12345;
  while ((long)text_length < target) {
    for (int column = 0; column < 76 && (long)text_length < target; column++) {
      state = state * 1103515245 + 12345;
      text[text_length++] = alphabet[(state >> 16) & 63];
    }
    text[text_length++] = '\r';
    text[text_length++] = '\n';
  }
}

static int compare(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static double percentile(double *sorted, long n, double part) { return sorted[(long)((n - 1) * part)] * 1e3; }

static void sum_up(void) {
  double seconds = (acknowledged ? last_acknowledged : now()) - began;
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  double cpu = usage.ru_utime.tv_sec + usage.ru_stime.tv_sec + (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
  printf("{\"acked\":%ld,\"errors\":%ld,\"lost\":%ld,\"refused_connections\":%ld,\"seconds\":%.3f,\"rate\":%.1f", acknowledged,
         errors, lost, refused_connections, seconds, acknowledged / seconds);
  long n = acknowledged < capacity ? acknowledged : capacity;
  if (n) {
    qsort(latencies, n, sizeof *latencies, compare);
    qsort(acceptances, n, sizeof *acceptances, compare);
    printf(",\"p50_ms\":%.3f,\"p99_ms\":%.3f,\"max_ms\":%.3f,\"ack_p50_ms\":%.3f,\"ack_p99_ms\":%.3f",
           percentile(latencies, n, .5), percentile(latencies, n, .99), percentile(latencies, n, 1),
           percentile(acceptances, n, .5), percentile(acceptances, n, .99));
  }
  printf(",\"client_cpu\":%.3f,\"codes\":{", cpu);
  const char *comma = "";
  for (int i = 0; i < 1000; i++)
    if (codes[i]) {
      printf("%s\"%d\":%ld", comma, i, codes[i]);
      comma = ",";
    }
  printf("}}\n");
}

static int read_options(int count, char **values) {
  int option;
  while ((option = getopt(count, values, "h:p:s:m:l:k:T:f:t:a:i:e:PQ")) > 0) switch (option) {
      case 'h': host = optarg; break;
      case 'p': port = atoi(optarg); break;
      case 's': sessions = atoi(optarg); break;
      case 'm': messages = atol(optarg); break;
      case 'l': size = atol(optarg); break;
      case 'k': mails_a_connection = atoi(optarg); break;
      case 'T': max_seconds = atof(optarg); break;
      case 'f': from = optarg; break;
      case 't': to = optarg; break;
      case 'i': run = optarg; break;
      case 'e': max_errors = atol(optarg); break;
      case 'P': pipelining = 1; break;
      case 'Q': wait_for_quit = 1; break;
      case 'a':
        log_of_acks = fopen(optarg, "a");
        if (!log_of_acks) {
          perror(optarg);
          return 0;
        }
        setvbuf(log_of_acks, NULL, _IOLBF, 4096);
        break;
      default: return 0;
    }
  return sessions > 0;
}

int main(int count, char **values) {
  if (!read_options(count, values)) {
    fputs(USAGE, stderr);
    return 2;
  }
  signal(SIGPIPE, SIG_IGN);
  make_text();
  capacity = messages < 5000000 ? messages : 5000000;
  latencies = malloc(capacity * sizeof *latencies);
  acceptances = malloc(capacity * sizeof *acceptances);
  struct session *all = calloc(sessions, sizeof *all);
  poller = epoll_create1(0);
  began = now();
  for (int i = 0; i < sessions; i++) {
    all[i].fd = -1;
    all[i].output = malloc(text_length + 4096);
  }
  double give_up = 0;
  for (;;) {
    if (more_to_send()) {
      for (int i = 0; i < sessions; i++)
        if (all[i].fd < 0 && now() >= all[i].not_before) dial(&all[i]);
    } else {
      if (!open_connections) break;
      if (!give_up) give_up = now() + GRACE_SECONDS;
      if (now() > give_up) break;
    }
    struct epoll_event events[256];
    int n = epoll_wait(poller, events, 256, 20);
    for (int i = 0; i < n; i++) {
      struct session *s = events[i].data.ptr;
      if (s->fd >= 0 && (events[i].events & EPOLLOUT)) take_output(s);
      if (s->fd >= 0 && (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))) take_input(s);
    }
  }
  sum_up();
  return 0;
}
