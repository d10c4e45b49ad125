for n in $(seq 0 7); do
    ip link add sw$n type bridge
    ip link set sw$n up
done
for n in $(seq 0 6); do
    ip link add right$n type veth peer name left$((n + 1))
    ip link set right$n master sw$n up
    ip link set left$((n + 1)) master sw$((n + 1)) up
done
for n in 0 1; do
    ip netns add h$n
    ip -n h$n link set lo up
    ip link add port$n type veth peer name eth0 netns h$n
    ip link set port$n master sw$((n * 7)) up
    ip -n h$n address add 10.60.0.$((n + 1))/24 dev eth0
    ip -n h$n link set eth0 up
done
