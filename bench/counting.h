/*
 * What a stream brings: chunks (RFC 9112, 7.1), lines, and events (WHATWG HTML, 9.2.6), counted.
 *
 * An event's data begins with its sequence number and the time of its publishing, in nanoseconds
 * of CLOCK_MONOTONIC: "17 123456789". Each stream must get each number once and in order; what it
 * gets again is `doubled`, what it did not get before the next is `missing`.
 */
#include <stdint.h>
#include <string.h>

/* What is kept of a line that came in pieces: an id has 128 bytes at most, and of data only the
 * start matters. */
#define KEPT 192
#define ID_BYTES 160
#define MAX_SAMPLES (1u << 24)

enum state { CONNECTING, ASKED, HEAD, BODY, CLOSED };
enum chunk { SIZE, SIZE_END, DATA, DATA_END };

struct stream {
    int fd;
    uint32_t number;
    uint8_t state, chunked, chunk_state, has_data, is_probe, counted_open;
    uint16_t kept;
    int64_t chunk_left;
    uint64_t next, sequence, sent_ns;
    char line[KEPT];
    char id[ID_BYTES];
};

static uint64_t delivered, doubled, missing, other, resets, comments, last_ns;
static uint32_t *samples, sample_count;

/* ---- events */

static void count_event(struct stream *s, uint64_t arrived_ns)
{
    if (!s->is_probe) {
        other++;
        return;
    }
    if (s->sequence < s->next) {
        doubled++;
        return;
    }
    missing += s->sequence - s->next;
    s->next = s->sequence + 1;
    delivered++;
    last_ns = arrived_ns;
    if (sample_count < MAX_SAMPLES) {
        uint64_t took = arrived_ns > s->sent_ns ? (arrived_ns - s->sent_ns) / 100 : 0;
        samples[sample_count++] = took > UINT32_MAX ? UINT32_MAX : (uint32_t)took;
    }
}

static uint64_t number(const char **p, const char *end)
{
    uint64_t value = 0;
    while (*p < end && **p >= '0' && **p <= '9')
        value = value * 10 + (uint64_t)(*(*p)++ - '0');
    return value;
}

static void read_data(struct stream *s, const char *p, const char *end)
{
    if (s->has_data)
        return;
    s->has_data = 1;
    if (p < end && *p == ' ')
        p++;
    if (p < end && *p == '"') /* some peers make JSON of all data */
        p++;
    s->is_probe = p < end && *p >= '0' && *p <= '9';
    if (s->is_probe) {
        s->sequence = number(&p, end);
        if (p < end)
            p++;
        s->sent_ns = number(&p, end);
    }
}

static void read_line(struct stream *s, const char *p, const char *end, uint64_t arrived_ns)
{
    if (end > p && end[-1] == '\r')
        end--;
    size_t length = (size_t)(end - p);
    if (length == 0) {
        if (s->has_data)
            count_event(s, arrived_ns);
        s->has_data = 0;
    } else if (length >= 5 && !memcmp(p, "data:", 5)) {
        read_data(s, p + 5, end);
    } else if (length >= 3 && !memcmp(p, "id:", 3)) {
        p += 3 + (length > 3 && p[3] == ' ');
        length = (size_t)(end - p);
        if (length < ID_BYTES) {
            memcpy(s->id, p, length);
            s->id[length] = 0;
        }
    } else if (*p == ':' || (length == 11 && !memcmp(p, "event: ping", 11))) {
        comments++; /* nchan's heartbeat is an event without data, which is none */
    } else if (length >= 19 && !memcmp(p, "event: stream-reset", 19)) {
        resets++;
    }
}

static void keep(struct stream *s, const char *p, size_t length)
{
    size_t room = KEPT - s->kept;
    if (length > room)
        length = room;
    memcpy(s->line + s->kept, p, length);
    s->kept = (uint16_t)(s->kept + length);
}

static void read_body(struct stream *s, const char *p, const char *end, uint64_t arrived_ns)
{
    while (p < end) {
        const char *newline = memchr(p, '\n', (size_t)(end - p));
        if (!newline) {
            keep(s, p, (size_t)(end - p));
            return;
        }
        if (s->kept) {
            keep(s, p, (size_t)(newline - p));
            read_line(s, s->line, s->line + s->kept, arrived_ns);
            s->kept = 0;
        } else {
            read_line(s, p, newline, arrived_ns);
        }
        p = newline + 1;
    }
}

/* ---- chunks */

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 32;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static void read_chunks(struct stream *s, const char *p, const char *end, uint64_t arrived_ns)
{
    while (p < end) {
        if (s->chunk_state == SIZE) {
            if (*p == '\n')
                s->chunk_state = DATA;
            else if (hex(*p) >= 0)
                s->chunk_left = s->chunk_left * 16 + hex(*p);
            else
                s->chunk_state = SIZE_END; /* a carriage return, or an extension */
            p++;
        } else if (s->chunk_state == SIZE_END) {
            if (*p++ == '\n')
                s->chunk_state = DATA;
        } else if (s->chunk_state == DATA) {
            int64_t here = end - p < s->chunk_left ? end - p : s->chunk_left;
            read_body(s, p, p + here, arrived_ns);
            p += here;
            s->chunk_left -= here;
            if (s->chunk_left == 0)
                s->chunk_state = DATA_END;
        } else if (*p++ == '\n') {
            s->chunk_state = SIZE;
        }
    }
}
