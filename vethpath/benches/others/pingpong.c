/* Round trips of 64 bytes between two processes, blocking, by UDP without connecting the sockets, or by TCP with
 * cubic; prints their median in microseconds.
 * Shares nothing with vethpath, so that it can be held against `vethpath bench`.
 *
 *     pingpong answer udp|tcp ADDRESS PORT             until it is killed
 *     pingpong ask    udp|tcp ADDRESS PORT SECONDS
 */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define SIZE 64
#define MOST 4000000

static void check(int good, const char *what)
{
	if (!good) {
		perror(what);
		exit(1);
	}
}

static long long now(void)
{
	struct timespec at;
	clock_gettime(CLOCK_MONOTONIC, &at);
	return at.tv_sec * 1000000000LL + at.tv_nsec;
}

/* All of a message, which TCP may give in parts. */
static int take(int fd, char *bytes)
{
	int got = 0;
	while (got < SIZE) {
		ssize_t more = recv(fd, bytes + got, SIZE - got, 0);
		if (more <= 0)
			return 0;
		got += more;
	}
	return 1;
}

/* Before it is connected: a socket that has begun with BBR is paced to its end. Those that are accepted inherit it. */
static void with_cubic(int fd)
{
	check(!setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "cubic", strlen("cubic")), "cubic");
}

static int compare(const void *a, const void *b)
{
	int one = *(const int *)a, other = *(const int *)b;
	return (one > other) - (one < other);
}

static void answer(int fd, int tcp, struct sockaddr_in *at)
{
	char bytes[SIZE];
	int one = 1;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	check(!bind(fd, (void *)at, sizeof *at), "bind");
	if (tcp) {
		with_cubic(fd);
		check(!listen(fd, 1), "listen");
		for (;;) {
			int with = accept(fd, NULL, NULL);
			check(with >= 0, "accept");
			setsockopt(with, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
			while (take(with, bytes) && send(with, bytes, SIZE, MSG_NOSIGNAL) == SIZE)
				;
			close(with);
		}
	}
	for (;;) {
		struct sockaddr_in from;
		socklen_t length = sizeof from;
		ssize_t got = recvfrom(fd, bytes, SIZE, 0, (void *)&from, &length);
		if (got <= 0 || sendto(fd, bytes, got, 0, (void *)&from, length) != got)
			return;
	}
}

static void ask(int fd, int tcp, struct sockaddr_in *at, double seconds)
{
	char bytes[SIZE] = "";
	int *taken = malloc(MOST * sizeof *taken), trips = 0, one = 1;
	check(taken != NULL, "malloc");
	if (tcp) {
		with_cubic(fd);
		check(!connect(fd, (void *)at, sizeof *at), "connect");
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	}
	long long begun = now(), warm = begun + seconds * 1e8, end = begun + seconds * 1.1e9;
	for (;;) {
		long long before = now();
		if (before >= end || trips == MOST)
			break;
		if (tcp) {
			check(send(fd, bytes, SIZE, 0) == SIZE, "send");
			check(take(fd, bytes), "recv");
		} else {
			check(sendto(fd, bytes, SIZE, 0, (void *)at, sizeof *at) == SIZE, "sendto");
			check(recvfrom(fd, bytes, SIZE, 0, NULL, NULL) == SIZE, "recvfrom");
		}
		if (before >= warm)
			taken[trips++] = now() - before;
	}
	check(trips > 0, "no round trip");
	qsort(taken, trips, sizeof *taken, compare);
	printf("%.3f\n", taken[trips / 2] / 1000.0);
}

int main(int count, char **words)
{
	check(count >= 5, "pingpong answer|ask udp|tcp ADDRESS PORT [SECONDS]");
	int tcp = !strcmp(words[2], "tcp");
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(atoi(words[4])) };
	check(inet_pton(AF_INET, words[3], &at.sin_addr) == 1, "address");
	int fd = socket(AF_INET, tcp ? SOCK_STREAM : SOCK_DGRAM, 0);
	check(fd >= 0, "socket");
	if (!strcmp(words[1], "answer"))
		answer(fd, tcp, &at);
	else
		ask(fd, tcp, &at, count > 5 ? atof(words[5]) : 1);
	return 0;
}
