/*
 * Ordinary requests, one after another over one connection, and how long each took.
 *
 *     ping PORT PATH COUNT PAUSE_MICROSECONDS
 *
 * It prints one line of JSON. It asks for real-time priority, so that the load generator, which has
 * the same core, delays no answer; "realtime" says whether it got that. A server that closes the
 * connection after each answer is asked over a new one, whose opening counts.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

static int connected(uint16_t port)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    struct timeval patience = {.tv_sec = 30};
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (connect(fd, (struct sockaddr *)&to, sizeof to)) {
        perror("connect");
        exit(2);
    }
    return fd;
}

/* Reads one answer of a known length. Returns 0 if the connection goes on, 1 if it is over. */
static int read_answer(int fd)
{
    static char answer[65536];
    size_t have = 0, wanted = 0;
    int closes = 0;
    do {
        ssize_t more = recv(fd, answer + have, sizeof answer - have - 1, 0);
        if (more <= 0) {
            fprintf(stderr, "no answer\n");
            exit(2);
        }
        have += (size_t)more;
        answer[have] = 0;
        char *end = strstr(answer, "\r\n\r\n"), *length = strcasestr(answer, "content-length:");
        if (end)
            wanted = (size_t)(end + 4 - answer) + (length ? strtoul(length + 15, NULL, 10) : 0);
        closes = strcasestr(answer, "connection: close") != NULL;
    } while (!wanted || have < wanted);
    return closes;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

int main(int argc, char **argv)
{
    if (argc != 5)
        return 2;
    struct sched_param priority = {.sched_priority = 10};
    int realtime = !sched_setscheduler(0, SCHED_FIFO, &priority);
    uint16_t port = (uint16_t)atoi(argv[1]);
    int count = atoi(argv[3]), fd = -1, connections = 0;
    useconds_t pause = (useconds_t)atoi(argv[4]);
    double *took_ms = calloc((size_t)count, sizeof *took_ms);
    char request[512];
    size_t length = (size_t)snprintf(request, sizeof request,
                                     "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", argv[2]);
    for (int i = 0; i < count; i++) {
        usleep(pause);
        uint64_t began = now_ns();
        if (fd < 0) {
            fd = connected(port);
            connections++;
        }
        if (send(fd, request, length, MSG_NOSIGNAL) != (ssize_t)length)
            return 2;
        int over = read_answer(fd);
        took_ms[i] = (double)(now_ns() - began) / 1e6;
        if (over) {
            close(fd);
            fd = -1;
        }
    }
    qsort(took_ms, (size_t)count, sizeof *took_ms, ascending);
    printf("{\"p50_ms\": %.4f, \"p95_ms\": %.4f, \"p99_ms\": %.4f, \"max_ms\": %.4f, "
           "\"connections\": %d, \"realtime\": %d}\n",
           took_ms[count / 2], took_ms[(int)(count * 0.95)], took_ms[(int)(count * 0.99)],
           took_ms[count - 1], connections, realtime);
    return 0;
}
