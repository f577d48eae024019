/*
 * The load generator: thousands of event streams on one thread, each event counted and timed.
 *
 *     load HOST PORT
 *
 * It reads commands from its input, one a line, and answers each with one line of JSON:
 *
 *     open COUNT IN_FLIGHT NEEDS_HEAD SECONDS PATH   more streams; %d in PATH is a stream's number
 *     expect SEQUENCE                                the next event of every stream
 *     wait DELIVERIES SECONDS                        until so many came in all, since the start
 *     run SECONDS                                    read on for that long
 *     cut                                            close all streams, and keep their last ids
 *     resume SECONDS                                 open them all again, at once, from those ids
 *     report                                         delays since the last report
 *     quit
 *
 * What it counts, and how, stands in counting.h.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "counting.h"

#define MAX_STREAMS 200000
#define READ_BYTES (1 << 18)
#define EVENTS_AT_ONCE 512
/* So many connections from one source address, so that ports last through all rounds. */
#define PER_SOURCE 5000

static struct stream *streams[MAX_STREAMS];
static uint32_t stream_count, next_to_open, in_flight, max_in_flight, opened, target_open;
static int needs_head, epoll_fd, resuming;
static char path[1024], host[64];
static uint16_t port;
static uint64_t expected = 1;

static uint64_t ended, refused, failed, bytes;
static uint64_t began_ns, deadline_ns, wanted;
static char buffer[READ_BYTES];
static char command;

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

static void die(const char *what)
{
    perror(what);
    exit(2);
}

/* ---- HTTP */

static void is_open(struct stream *s)
{
    if (!s->counted_open) {
        s->counted_open = 1;
        opened++;
        in_flight--;
        last_ns = now_ns();
    }
}

static void leave(struct stream *s)
{
    if (s->state == CLOSED)
        return;
    close(s->fd);
    if (!s->counted_open) {
        in_flight--;
        s->counted_open = 1;
    }
    s->state = CLOSED;
}

static void read_head(struct stream *s, char *p, size_t length, uint64_t arrived_ns)
{
    /* A head has come with one read from every server so far; if not, that is a failure. */
    char *body = memmem(p, length, "\r\n\r\n", 4);
    if (!body || length < 12 || memcmp(p + 9, "200", 3)) {
        refused++;
        if (refused == 1)
            fprintf(stderr, "refused: %.*s\n", (int)(length > 300 ? 300 : length), p);
        leave(s);
        return;
    }
    body[2] = 0;
    s->chunked = strcasestr(p, "transfer-encoding: chunked") != NULL;
    s->state = BODY;
    is_open(s);
    if (s->chunked)
        read_chunks(s, body + 4, p + length, arrived_ns);
    else
        read_body(s, body + 4, p + length, arrived_ns);
}

static void ask(struct stream *s)
{
    char request[2048], target[1100];
    char *mark = strstr(path, "%d");
    if (mark)
        snprintf(target, sizeof target, "%.*s%u%s", (int)(mark - path), path, s->number, mark + 2);
    else
        snprintf(target, sizeof target, "%s", path);
    int length = snprintf(request, sizeof request,
                          "GET %s HTTP/1.1\r\nHost: %s:%u\r\nAccept: text/event-stream\r\n%s%s%s\r\n",
                          target, host, port, resuming && *s->id ? "Last-Event-ID: " : "",
                          resuming ? s->id : "", resuming && *s->id ? "\r\n" : "");
    if (send(s->fd, request, (size_t)length, MSG_NOSIGNAL) != length) {
        failed++;
        leave(s);
        return;
    }
    s->state = HEAD;
    if (!needs_head)
        is_open(s);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = s};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_MOD, s->fd, &event))
        die("epoll_ctl");
}

static void read_stream(struct stream *s)
{
    ssize_t length = recv(s->fd, buffer, READ_BYTES, 0);
    if (length < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (length <= 0) {
        ended++;
        leave(s);
        return;
    }
    bytes += (uint64_t)length;
    uint64_t arrived_ns = now_ns();
    if (s->state == HEAD)
        read_head(s, buffer, (size_t)length, arrived_ns);
    else if (s->chunked)
        read_chunks(s, buffer, buffer + length, arrived_ns);
    else
        read_body(s, buffer, buffer + length, arrived_ns);
}

/* ---- opening */

static void connect_stream(struct stream *s)
{
    static uint32_t sources;
    int one = 1;
    s->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (s->fd < 0)
        die("socket");
    struct sockaddr_in from = {.sin_family = AF_INET};
    uint32_t source = sources++ / PER_SOURCE + (uint32_t)getpid() * 64;
    from.sin_addr.s_addr = htonl(0x7f010001u + (source & 0x3fffffu) * 2);
    setsockopt(s->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    if (bind(s->fd, (struct sockaddr *)&from, sizeof from))
        die("bind");
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    inet_pton(AF_INET, host, &to.sin_addr);
    s->state = CONNECTING;
    s->counted_open = s->chunked = s->chunk_state = s->has_data = 0;
    s->kept = 0;
    s->chunk_left = 0;
    in_flight++;
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT, .data.ptr = s};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, s->fd, &event))
        die("epoll_ctl");
    if (connect(s->fd, (struct sockaddr *)&to, sizeof to) && errno != EINPROGRESS) {
        failed++;
        leave(s);
    }
}

static void open_more(void)
{
    while (next_to_open < target_open && in_flight < max_in_flight) {
        struct stream *s = streams[next_to_open];
        if (!s) {
            s = calloc(1, sizeof *s);
            if (!s)
                die("calloc");
            s->number = next_to_open;
            s->next = expected;
            streams[next_to_open] = s;
        }
        next_to_open++;
        if (next_to_open > stream_count)
            stream_count = next_to_open;
        connect_stream(s);
    }
}

static void serve(struct epoll_event *event)
{
    struct stream *s = event->data.ptr;
    if (s->state == CLOSED)
        return;
    if (s->state == CONNECTING) {
        int error = 0;
        socklen_t length = sizeof error;
        getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &error, &length);
        if (error) {
            failed++;
            leave(s);
        } else if (event->events & EPOLLOUT) {
            ask(s);
        }
    } else if (event->events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
        read_stream(s);
    }
}

/* ---- commands */

static double cpu_s(void)
{
    struct rusage use;
    getrusage(RUSAGE_SELF, &use);
    return (double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) +
           (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec) / 1e6;
}

static void answer(int complete)
{
    printf("{\"complete\": %s, \"elapsed_s\": %.9f, \"cpu_s\": %.6f, \"last_ns\": %llu, "
           "\"opened\": %u, \"delivered\": %llu, \"doubled\": %llu, \"missing\": %llu, "
           "\"other\": %llu, \"resets\": %llu, \"comments\": %llu, \"ended\": %llu, "
           "\"refused\": %llu, \"failed\": %llu, \"bytes\": %llu}\n",
           complete ? "true" : "false", (double)(now_ns() - began_ns) / 1e9, cpu_s(),
           (unsigned long long)last_ns, opened, (unsigned long long)delivered,
           (unsigned long long)doubled, (unsigned long long)missing, (unsigned long long)other,
           (unsigned long long)resets, (unsigned long long)comments, (unsigned long long)ended,
           (unsigned long long)refused, (unsigned long long)failed, (unsigned long long)bytes);
    fflush(stdout);
    command = 0;
}

static int ascending(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static double sample_ms(double part)
{
    return sample_count ? samples[(uint32_t)(part * (sample_count - 1))] / 1e4 : 0;
}

static void report(void)
{
    qsort(samples, sample_count, sizeof *samples, ascending);
    printf("{\"samples\": %u, \"p50_ms\": %.4f, \"p95_ms\": %.4f, \"p99_ms\": %.4f, "
           "\"max_ms\": %.4f}\n",
           sample_count, sample_ms(0.5), sample_ms(0.95), sample_ms(0.99), sample_ms(1));
    fflush(stdout);
    sample_count = 0;
}

static void begin(char name, double seconds)
{
    command = name;
    began_ns = now_ns();
    deadline_ns = began_ns + (uint64_t)(seconds * 1e9);
}

static void reopen(double seconds)
{
    resuming = 1;
    opened = next_to_open = in_flight = 0;
    target_open = max_in_flight = stream_count;
    begin('o', seconds);
    open_more();
}

static void obey(char *line)
{
    uint32_t count;
    double seconds = 0;
    if (sscanf(line, "open %u %u %d %lf %1000s", &count, &max_in_flight, &needs_head, &seconds,
               path) == 5) {
        target_open += count;
        if (target_open > MAX_STREAMS)
            die("too many streams");
        begin('o', seconds);
        open_more();
    } else if (sscanf(line, "expect %llu", (unsigned long long *)&expected) == 1) {
        for (uint32_t i = 0; i < stream_count; i++)
            streams[i]->next = expected;
        answer(1);
    } else if (sscanf(line, "wait %llu %lf", (unsigned long long *)&wanted, &seconds) == 2) {
        begin('w', seconds);
    } else if (sscanf(line, "run %lf", &seconds) == 1) {
        begin('r', seconds);
    } else if (sscanf(line, "resume %lf", &seconds) == 1) {
        reopen(seconds);
    } else if (!strncmp(line, "cut", 3)) {
        for (uint32_t i = 0; i < stream_count; i++)
            leave(streams[i]);
        answer(1);
    } else if (!strncmp(line, "report", 6)) {
        report();
    } else {
        exit(strncmp(line, "quit", 4) ? 2 : 0);
    }
}

static void read_commands(void)
{
    static char text[4096];
    static size_t have;
    ssize_t length = read(0, text + have, sizeof text - have - 1);
    if (length <= 0)
        exit(0); /* whoever commanded is gone */
    have += (size_t)length;
    text[have] = 0;
    char *newline = memchr(text, '\n', have);
    if (newline) {
        *newline = 0;
        obey(text);
        have = 0; /* one command at a time: the next comes after the answer */
    }
}

static void finish_command(void)
{
    if (!command)
        return;
    int late = now_ns() >= deadline_ns;
    int done = (command == 'o' && next_to_open == target_open && in_flight == 0) ||
               (command == 'w' && delivered >= wanted) || (command == 'r' && late);
    if (done || late)
        answer(done);
}

int main(int argc, char **argv)
{
    static struct epoll_event events[EVENTS_AT_ONCE];
    if (argc != 3)
        return 2;
    snprintf(host, sizeof host, "%s", argv[1]);
    port = (uint16_t)atoi(argv[2]);
    samples = malloc(MAX_SAMPLES * sizeof *samples);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event input = {.events = EPOLLIN, .data.ptr = NULL};
    if (!samples || epoll_fd < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, 0, &input))
        die("start");
    for (;;) {
        int count = epoll_wait(epoll_fd, events, EVENTS_AT_ONCE, command ? 5 : -1);
        for (int i = 0; i < count; i++) {
            if (events[i].data.ptr)
                serve(&events[i]);
            else
                read_commands();
        }
        open_more();
        finish_command();
    }
}
