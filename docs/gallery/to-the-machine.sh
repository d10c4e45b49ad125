ip netns add ns0
ip link add veth0 type veth peer name eth0 netns ns0
ip address add 10.0.0.1/24 dev veth0
ip link set veth0 up
ip -n ns0 link set lo up
ip -n ns0 address add 10.0.0.2/24 dev eth0
ip -n ns0 link set eth0 up
ip -n ns0 route add default via 10.0.0.1
