ip link add docker0 type bridge
ip address add 172.17.0.1/16 dev docker0
ip link set docker0 up
for n in $(seq 0 2); do
    ip netns add ns$n
    ip -n ns$n link set lo up
    ip link add veth$n type veth peer name eth0 netns ns$n
    ip link set veth$n master docker0 up
    ip -n ns$n address add 172.17.0.10$((n + 1))/16 dev eth0
    ip -n ns$n link set eth0 up
    ip -n ns$n route add default via 172.17.0.1
done
