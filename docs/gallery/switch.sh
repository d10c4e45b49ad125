ip link add br0 type bridge
ip link set br0 up
for n in $(seq 0 4); do
    ip netns add r$n
    ip -n r$n link set lo up
    ip link add port$n type veth peer name eth0 netns r$n
    ip link set port$n master br0 up
    ip -n r$n address add 10.50.0.$((n + 1))/24 dev eth0
    ip -n r$n link set eth0 up
done
