ip link add left type bridge
ip link add right type bridge
ip link set left up
ip link set right up
for ns in a b r; do
    ip netns add $ns
    ip -n $ns link set lo up
done
ip link add a-eth0 type veth peer name eth0 netns a
ip link add b-eth0 type veth peer name eth0 netns b
ip link add r-left type veth peer name left netns r
ip link add r-right type veth peer name right netns r
ip link set a-eth0 master left up
ip link set r-left master left up
ip link set b-eth0 master right up
ip link set r-right master right up
ip -n a address add 10.1.0.2/24 dev eth0
ip -n b address add 10.2.0.2/24 dev eth0
ip -n r address add 10.1.0.1/24 dev left
ip -n r address add 10.2.0.1/24 dev right
ip -n a link set eth0 up
ip -n b link set eth0 up
ip -n r link set left up
ip -n r link set right up
ip -n a route add default via 10.1.0.1
ip -n b route add default via 10.2.0.1
ip netns exec r sysctl -q -w net.ipv4.ip_forward=1
