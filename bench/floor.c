/*
 * The floor: what one event to many streams costs at least, on one thread with epoll.
 *
 *     floor [double|skip]
 *
 * It prints its port, and then answers, as every server of the benchmark does:
 *
 *     GET  /stream?channel=c17                         a stream; it gets its channel's events
 *     POST /publish?channel=c   body: the data         one send() of the same bytes per stream
 *     POST /burst?channel=c&first=1&count=500&size=0   so many events, made here, one after another
 *     POST /private?first=1&count=5000                 one event to each channel c0, c1, ...
 *
 * Each event is as long as ours and has an id. It parses no more HTTP than the load generator
 * speaks, and knows no slow readers: that makes it a floor. "double" and "skip" send every tenth
 * event of a stream twice, or not at all: the load generator must find that.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MAX_FILES 200000
#define MAX_CHANNELS 200000
/* Channels have numbers: c0, c1, ... are 0, 1, ...; any other name is this one. */
#define COMMON (MAX_CHANNELS - 1)
#define REQUEST_BYTES (1 << 17)

static const char STREAM_HEAD[] =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
    "Cache-Control: no-cache\r\nConnection: close\r\n\r\nretry: 3000\n:\n";
static const char DONE[] = "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n";

/* The streams of a channel, as a list through the descriptors. */
static int first_of[MAX_CHANNELS], next_of[MAX_FILES], channel_of[MAX_FILES];
static char is_stream[MAX_FILES];
static int epoll_fd;
static uint64_t published;
static const char *broken = "";

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

static void send_all(int fd, const char *data, size_t length)
{
    while (length) {
        ssize_t sent = send(fd, data, length, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno != EAGAIN)
            return; /* its end is read soon */
        if (sent < 0) {
            struct pollfd wait = {.fd = fd, .events = POLLOUT};
            poll(&wait, 1, 1000);
            continue;
        }
        data += sent;
        length -= (size_t)sent;
    }
}

static void publish(int channel, const char *data, size_t length)
{
    static char frame[REQUEST_BYTES + 100];
    int frame_length = snprintf(frame, sizeof frame, "data: %.*s\nid: fl00r000-%llu\n\n",
                                (int)length, data, (unsigned long long)++published);
    int tenth = *broken && published % 10 == 0;
    for (int fd = first_of[channel]; fd; fd = next_of[fd]) {
        if (tenth && *broken == 's')
            continue;
        send_all(fd, frame, (size_t)frame_length);
        if (tenth && *broken == 'd')
            send_all(fd, frame, (size_t)frame_length);
    }
}

/* An event made here: its number, the time, and filling up to `size`. */
static void publish_made(int channel, uint64_t sequence, size_t size)
{
    static char data[REQUEST_BYTES];
    size_t length = (size_t)snprintf(data, sizeof data, "%llu %llu ",
                                     (unsigned long long)sequence, (unsigned long long)now_ns());
    if (size > sizeof data)
        size = sizeof data;
    while (length < size)
        data[length++] = 'x';
    publish(channel, data, length);
}

static uint64_t argument(const char *target, const char *name)
{
    const char *at = strstr(target, name);
    return at ? strtoull(at + strlen(name), NULL, 10) : 0;
}

static int channel_in(const char *target)
{
    const char *at = strstr(target, "channel=c");
    if (!at || at[9] < '0' || at[9] > '9')
        return COMMON;
    return (int)(strtoul(at + 9, NULL, 10) % COMMON);
}

static void open_stream(int fd, const char *target)
{
    int channel = channel_in(target), one = 1;
    is_stream[fd] = 1;
    channel_of[fd] = channel;
    next_of[fd] = first_of[channel];
    first_of[channel] = fd;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    send_all(fd, STREAM_HEAD, sizeof STREAM_HEAD - 1);
}

static void forget(int fd)
{
    if (is_stream[fd]) {
        int *at = &first_of[channel_of[fd]];
        while (*at && *at != fd)
            at = &next_of[*at];
        if (*at)
            *at = next_of[fd];
        is_stream[fd] = 0;
    }
    close(fd);
}

static void answer_post(int fd, const char *target, const char *body, size_t length)
{
    uint64_t first = argument(target, "first="), count = argument(target, "count=");
    if (!strncmp(target, "/publish", 8)) {
        publish(channel_in(target), body, length);
    } else {
        int private = !strncmp(target, "/private", 8);
        for (uint64_t i = 0; i < count; i++)
            publish_made(private ? (int)i : channel_in(target), private ? first : first + i,
                         argument(target, "size="));
    }
    send_all(fd, DONE, sizeof DONE - 1);
    forget(fd);
}

static void read_request(int fd)
{
    static char request[REQUEST_BYTES];
    ssize_t length = recv(fd, request, sizeof request - 1, 0);
    if (length <= 0 || is_stream[fd]) {
        if (length <= 0)
            forget(fd);
        return;
    }
    request[length] = 0;
    char *end = strstr(request, "\r\n\r\n"), *target = strchr(request, ' ');
    if (!end || !target) {
        forget(fd);
        return;
    }
    const char *named = strcasestr(request, "content-length:");
    size_t wanted = named && named < end ? strtoul(named + 15, NULL, 10) : 0;
    size_t have = (size_t)(request + length - end - 4);
    while (have < wanted && (size_t)length < sizeof request - 1) {
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        poll(&wait, 1, 1000);
        ssize_t more = recv(fd, request + length, sizeof request - 1 - (size_t)length, 0);
        if (more <= 0)
            break;
        length += more;
        have += (size_t)more;
    }
    char *target_end = strchr(target + 1, ' ');
    if (target_end)
        *target_end = 0;
    if (!strncmp(request, "GET", 3))
        open_stream(fd, target + 1);
    else
        answer_post(fd, target + 1, end + 4, have);
}

static void accept_all(int listener)
{
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0)
            return;
        if (fd >= MAX_FILES)
            die("too many files");
        struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
        if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event))
            die("epoll_ctl");
    }
}

int main(int argc, char **argv)
{
    static struct epoll_event events[512];
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof at;
    if (argc > 1)
        broken = argv[1];
    signal(SIGPIPE, SIG_IGN);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (listener < 0 || bind(listener, (struct sockaddr *)&at, sizeof at) ||
        listen(listener, 4096) || getsockname(listener, (struct sockaddr *)&at, &length))
        die("listen");
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &event);
    printf("Listening at: http://127.0.0.1:%d\n", ntohs(at.sin_port));
    fflush(stdout);
    for (;;) {
        int count = epoll_wait(epoll_fd, events, 512, -1);
        for (int i = 0; i < count; i++) {
            if (events[i].data.fd == listener)
                accept_all(listener);
            else
                read_request(events[i].data.fd);
        }
    }
}
