import { useEffect, useState } from "react";
import { table } from "kafka-sse-bridge-client";

export default function Orders() {
  const [rows, setRows] = useState([]);
  useEffect(() => {
    const orders = table("orders", { key: "order", onChange: () => setRows([...orders.rows.values()]) });
    return () => orders.close();
  }, []);
  return <ul>{rows.map(({ order, status, total }) => <li key={order}>{order}: {status}, {total}</li>)}</ul>;
}
